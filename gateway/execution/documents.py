"""A cache of parsed and validated documents, by their text."""

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

MAX_ERRORS = 10  # per document or set of variables: each suggestion compares a name with all fields of a type
TOO_DEEP = "The document is nested too deeply: flatten it."
_NO_TOKEN = Token(TokenKind.SOF, 0, 0, 0, 0)


@dataclass(slots=True, eq=False)
class Prepared:
    """A parsed document, or the errors that make it invalid.

    `plans` belongs to the planner. `entry` is the document's cache entry, to which its plans add their weight."""

    document: DocumentNode | None = None
    errors: list[GraphQLError] = field(default_factory=list)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: list[OperationDefinitionNode] = field(default_factory=list)
    plans: dict[Any, Any] = field(default_factory=dict)
    entry: Entry[str, "Prepared"] | None = None

    def named(self, name: str | None) -> OperationDefinitionNode:
        """Return the operation with this name, or the only one; raises LookupError."""
        operations = [
            operation
            for operation in self.operations
            if name is None or (operation.name and operation.name.value == name)
        ]
        if len(operations) != 1:
            raise LookupError(name)
        return operations[0]


class PreparedDocuments:
    """The documents that were used last. Only valid ones are cached."""

    def __init__(
        self, schema: GraphQLSchema, metrics: Metrics, caches: CacheBudget | None = None, *, suggestions: bool = False
    ) -> None:
        self._schema = schema
        self._suggestions = suggestions
        self._documents: Cache[str, Prepared] = Cache(caches or CacheBudget(), _weigh)
        self._metrics = metrics

    def prepare(self, text: str) -> Prepared:
        """Return the document of a text. Errors are in `errors`; an invalid document is validated again each time."""
        prepared = self._documents.get(text)
        self._metrics.prepared(cached=prepared is not None)
        return self._read(text) if prepared is None else prepared

    def is_valid(self, text: str) -> bool:
        return text in self._documents or not self._read(text).errors

    def __contains__(self, text: object) -> bool:
        return text in self._documents

    def _read(self, text: str) -> Prepared:
        prepared = prepare_document(self._schema, text, suggestions=self._suggestions)
        if not prepared.errors:
            prepared.entry = self._documents.put(text, prepared)
        return prepared


class _Parser(Parser):
    """A parser whose nodes have locations without tokens: cached tokens would keep all comments in memory."""

    def loc(self, start_token: Token) -> Location | None:
        if self._no_location:
            return None
        location = Location(start_token, self._lexer.last_token, self._lexer.source)
        location.start_token = location.end_token = _NO_TOKEN
        return location

    def forget_tokens(self) -> None:
        """Unlink the tokens, so that they are freed without the cycle collector."""
        token: Token | None = self._lexer.token
        while token is not None:
            before = token.prev
            token.prev = token.next = None
            token = before


def parse_document(text: str, *, located: bool = True, max_tokens: int | None = None) -> DocumentNode:
    """Parse a text; `located` gives nodes their locations. Raises GraphQLError."""
    parser = _Parser(text, no_location=not located, max_tokens=max_tokens)
    try:
        return parser.parse_document()
    except RecursionError:
        raise GraphQLError(TOO_DEEP) from None
    finally:
        parser.forget_tokens()


def prepare_document(schema: GraphQLSchema, text: str, *, suggestions: bool = False) -> Prepared:
    """Parse and validate a text; `errors` has at most MAX_ERRORS entries."""
    try:
        document = parse_document(text)
        errors = explained(validate(schema, document, RULES, max_errors=MAX_ERRORS, hide_suggestions=not suggestions))
    except GraphQLError as error:
        return Prepared(errors=[error])
    except Exception as error:
        return Prepared(errors=[GraphQLError(str(error), original_error=error)])
    prepared = Prepared(document, errors)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            prepared.operations.append(definition)
        elif isinstance(definition, FragmentDefinitionNode):
            prepared.fragments[definition.name.value] = definition
    return prepared


def _weigh(text: str, prepared: Prepared) -> int:
    definitions: Sequence[Any] = prepared.document.definitions if prepared.document else ()
    return text_bytes(text) + node_bytes(*definitions)
