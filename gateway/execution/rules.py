"""The rules that documents are validated by: graphql-core's, none of which does more than so much for each token."""

from graphql import DocumentNode, GraphQLError, OverlappingFieldsCanBeMergedRule, specified_rules
from graphql.validation import ValidationContext

_COMPARISONS_OF_A_TOKEN = 50
_MOST_COMPARISONS = 100_000  # a microsecond or two each
_ABORTED = "Validation aborted."
_TOO_MANY = (
    "The document has the same fields in too many places to compare them all: "
    "ask for each field once, and spread fewer fragments side by side."
)


class BoundedOverlappingFieldsRule(OverlappingFieldsCanBeMergedRule):
    """Compares every two fields of one name, of which there are many in a long document: so many for each of its tokens."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        of_tokens = _COMPARISONS_OF_A_TOKEN * count_tokens(context.document)
        self.rule_context.remaining_complexity_budget = min(of_tokens, _MOST_COMPARISONS)


RULES = tuple(
    BoundedOverlappingFieldsRule if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules
)


def count_tokens(document: DocumentNode) -> int:
    """How many tokens a document has that was parsed with its locations."""
    count, token = 0, document.loc.start_token if document.loc else None
    while token is not None:
        count, token = count + 1, token.next
    return count


def explained(errors: list[GraphQLError]) -> list[GraphQLError]:
    """The errors of a validation, with what ended it in words that help."""
    return [GraphQLError(_TOO_MANY) if error.message == _ABORTED else error for error in errors]
