"""Validation rules: graphql-core's, with bounded work per token."""

from graphql import GraphQLError, OverlappingFieldsCanBeMergedRule, specified_rules
from graphql.validation import ValidationContext
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from gateway.execution.syntax_tree import nodes_below

_COMPARISONS_OF_A_NODE = 25
_MOST_COMPARISONS = 100_000  # a microsecond or two each
_ABORTED = "Validation aborted."
_TOO_MANY = "The document repeats the same fields in too many places: select each field once, and spread fewer fragments side by side."


class BoundedOverlappingFieldsRule(OverlappingFieldsCanBeMergedRule):
    """Limits the comparisons of fields with one name, which grow with the square of the document."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        of_nodes = _COMPARISONS_OF_A_NODE * sum(1 for _ in nodes_below(context.document))
        self.rule_context.remaining_complexity_budget = min(of_nodes, _MOST_COMPARISONS)


RULES = (
    *(BoundedOverlappingFieldsRule if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules),
    MaybeNullValidationRule,
    OneOfInputValidationRule,
)


def explained(errors: list[GraphQLError]) -> list[GraphQLError]:
    """Replace the error that ended a validation early by one that says what to do."""
    return [GraphQLError(_TOO_MANY) if error.message == _ABORTED else error for error in errors]
