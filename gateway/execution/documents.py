"""Documents by their text: parsed and validated once, and kept as long as they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    Location,
    OperationDefinitionNode,
    Token,
    TokenKind,
    validate,
)
from graphql.language.parser import Parser

from gateway.caches import Cache, CacheBudget, Entry, text_bytes
from gateway.execution.rules import RULES, explained
from gateway.execution.syntax_tree import node_bytes
from gateway.observability import Metrics

MAX_ERRORS = 10  # of a document or of its variables: each suggestion in them compares a name with all of a type
TOO_DEEP = "The document nests deeper than can be read: flatten it."
_NO_TOKEN = Token(TokenKind.SOF, 0, 0, 0, 0)


@dataclass(slots=True, eq=False)
class Prepared:
    """A document that can be executed, or what is wrong with it; `plans` are kept with it by the planner.

    `entry`: where it is kept, so that its plans are weighed with it."""

    document: DocumentNode | None = None
    errors: list[GraphQLError] = field(default_factory=list)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: list[OperationDefinitionNode] = field(default_factory=list)
    plans: dict[Any, Any] = field(default_factory=dict)
    entry: Entry[str, "Prepared"] | None = None

    def named(self, name: str | None) -> OperationDefinitionNode:
        """The operation with that name, or the only one; LookupError."""
        found = [one for one in self.operations if name is None or (one.name and one.name.value == name)]
        if len(found) != 1:
            raise LookupError(name)
        return found[0]


class PreparedDocuments:
    """The documents that were asked for last, ready to be executed; only valid ones are kept."""

    def __init__(
        self, schema: GraphQLSchema, metrics: Metrics, caches: CacheBudget | None = None, *, suggestions: bool = False
    ) -> None:
        self._schema = schema
        self._suggestions = suggestions
        self._kept: Cache[str, Prepared] = Cache(caches or CacheBudget(), _weigh)
        self._metrics = metrics

    def prepare(self, text: str) -> Prepared:
        """The document of that text; what is wrong with it is in its `errors`, and is found anew each time."""
        found = self._kept.get(text)
        self._metrics.prepared(kept=found is not None)
        return self._read(text) if found is None else found

    def is_valid(self, text: str) -> bool:
        """Whether the document of that text can be executed."""
        return text in self._kept or not self._read(text).errors

    def __contains__(self, text: object) -> bool:
        return text in self._kept

    def _read(self, text: str) -> Prepared:
        prepared = prepare_document(self._schema, text, suggestions=self._suggestions)
        if not prepared.errors:
            prepared.entry = self._kept.put(text, prepared)
        return prepared


class _Parser(Parser):
    """A parser whose nodes know where they stand, but not their tokens, which would be kept with them, comments included."""

    def loc(self, start_token: Token) -> Location | None:
        """Where what begins with that token stands."""
        if self._no_location:
            return None
        location = Location(start_token, self._lexer.last_token, self._lexer.source)
        location.start_token = location.end_token = _NO_TOKEN
        return location

    def forget_tokens(self) -> None:
        """Break the chain of tokens, so that they go at once, and not when somebody looks for circles."""
        token: Token | None = self._lexer.token
        while token is not None:
            before = token.prev
            token.prev = token.next = None
            token = before


def parse_document(text: str, *, located: bool = True, max_tokens: int | None = None) -> DocumentNode:
    """The document of that text, `located` where its nodes know where they stand; GraphQLError."""
    parser = _Parser(text, no_location=not located, max_tokens=max_tokens)
    try:
        return parser.parse_document()
    except RecursionError:
        raise GraphQLError(TOO_DEEP) from None
    finally:
        parser.forget_tokens()


def prepare_document(schema: GraphQLSchema, text: str, *, suggestions: bool = False) -> Prepared:
    """The document of that text, parsed and validated; what is wrong with it is in its `errors`, MAX_ERRORS at most."""
    try:
        document = parse_document(text)
        errors = explained(validate(schema, document, RULES, max_errors=MAX_ERRORS, hide_suggestions=not suggestions))
    except GraphQLError as error:
        return Prepared(errors=[error])
    except Exception as error:
        return Prepared(errors=[GraphQLError(str(error), original_error=error)])
    found = Prepared(document, errors)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            found.operations.append(definition)
        elif isinstance(definition, FragmentDefinitionNode):
            found.fragments[definition.name.value] = definition
    return found


def _weigh(text: str, prepared: Prepared) -> int:
    definitions: Sequence[Any] = prepared.document.definitions if prepared.document else ()
    return text_bytes(text) + node_bytes(*definitions)
