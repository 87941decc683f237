"""The fields of a schema and of a selection set, as plans use them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from inspect import Parameter
from typing import Any, NamedTuple, cast

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    VariableNode,
    get_named_type,
    is_leaf_type,
    is_non_null_type,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.values import VariableValues, get_argument_values
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from gateway.execution.syntax_tree import nodes_below

# (parents, arguments, context) -> one result or exception per parent, in their order.
Batch = Callable[[Sequence[Any], Any, Any], Awaitable[Sequence[Any]]]
# (context, field name, type name): raises if the principal may not see the field.
Check = Callable[[Any, str, str], None]
Admit = Callable[[Any], Awaitable[None]]
# (arguments by schema name) -> checks; each is called with the context and raises if the principal may not see the field.
ChecksOf = Callable[[Mapping[str, Any]], Sequence[Callable[[Any], None]]]

BATCHED = "__batched__"
GUARDED = "gateway-guarded"
READS = "__reads__"
_STRAWBERRYS = "strawberry.schema.schema_converter"


@dataclass(frozen=True, slots=True)
class Batched:
    """How a field is read for all objects of a level at once.

    `arguments`: maps the field's arguments to those of the batch function.
    `by`: the key whose values are passed to the function (a null value gives null); None passes the objects themselves.
    `reads`: the keys that the function reads of each object; None if it may read any."""

    function: Batch
    arguments: Callable[..., Any]
    by: str | None = None
    reads: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A resolver behind a check that depends on the principal alone, so it runs once per operation.

    `check`: None if everybody may see the field.
    `admit`: a further, asynchronous check, run once per call of a batch function.
    `checks_of`: returns the checks that depend on the field's arguments."""

    check: Check | None
    resolve: Callable[..., Any]
    admit: "Admit | None" = None
    checks_of: "ChecksOf | None" = None


@dataclass(frozen=True, slots=True)
class Reads:
    """The keys that are read of documents (None: any), and whether their values are only `shown`, not inspected."""

    keys: frozenset[str] | None = frozenset()
    shown: bool = True

    def __or__(self, other: "Reads") -> "Reads":
        has_keys = self.keys is not None and other.keys is not None
        return Reads(self.keys | other.keys if has_keys else None, self.shown and other.shown)  # type: ignore[operator]


class Call(NamedTuple):
    """A batch function, its arguments and its checks. Fields with the same `key` share one call."""

    function: Batch
    arguments: Any
    key: str
    admit: Admit | None
    checks: Sequence[Callable[[Any], None]]


class ReadMode(Enum):
    TYPE_NAME = "the name of the object's type"
    KEY = "a key of the document"
    FUNCTION = "a function of the document alone"
    BATCH = "a batch function, once for the level"
    RESOLVER = "a resolver of its own"


@dataclass(slots=True, eq=False)
class SchemaField:
    """A field of the schema. `reads`: what its value depends on in a document."""

    parent: GraphQLObjectType
    name: str
    definition: GraphQLField
    key_of: Callable[[str], str]
    nullable: bool = field(init=False)
    declared: StrawberryField | None = field(init=False)  # strawberry's definition
    reading: ReadMode = ReadMode.RESOLVER
    check: Check | None = None
    admit: Admit | None = None
    checks_of: ChecksOf | None = None
    function: Callable[[Any], Any] | None = None
    batched: Batched | None = None
    reads: Reads = field(init=False)

    def __post_init__(self) -> None:
        field_definition = (self.definition.extensions or {}).get("strawberry-definition")
        self.declared = field_definition if isinstance(field_definition, StrawberryField) else None
        self.nullable = not is_non_null_type(self.definition.type)
        self._choose_reading()
        self.reads = self._reads()

    def _reads(self) -> Reads:
        if self.reading is ReadMode.TYPE_NAME:
            return Reads()
        if self.reading is ReadMode.KEY and self.declared is not None:
            key = self.key_of(self.declared.python_name)
            return Reads(frozenset({key}), is_leaf_type(get_named_type(self.definition.type)))
        if self.batched is not None:
            return Reads(self.batched.reads if self.batched.by is None else frozenset({self.batched.by}), shown=False)
        resolver = None if self.declared is None else self.declared.base_resolver
        return Reads(None if resolver is None else getattr(resolver.wrapped_func, READS, None), shown=False)

    def _choose_reading(self) -> None:
        if self.name == "__typename":
            self.reading = ReadMode.TYPE_NAME
            return
        guarded, declared = (self.definition.extensions or {}).get(GUARDED), self.declared
        resolve = self.definition.resolve if guarded is None else guarded.resolve
        # A resolver wrapped by anything else must be called: the wrapper may refuse.
        if getattr(resolve, "__module__", None) != _STRAWBERRYS or declared is None or declared.extensions:
            return
        resolver = declared.base_resolver
        if resolver is None:
            if not declared.is_basic_field or self.definition.args:
                return
            self.reading = ReadMode.KEY
        elif hasattr(resolver.wrapped_func, BATCHED):
            self.reading, self.batched = ReadMode.BATCH, getattr(resolver.wrapped_func, BATCHED)
        elif _reads_parent_alone(resolver):
            self.reading, self.function = ReadMode.FUNCTION, cast("Any", resolver.wrapped_func)
        if guarded is not None and guarded.admit is not None and self.reading is not ReadMode.BATCH:
            self.reading, self.function = ReadMode.RESOLVER, None
        if self.reading is not ReadMode.RESOLVER and guarded is not None:
            self.check, self.admit, self.checks_of = guarded.check, guarded.admit, guarded.checks_of


@dataclass(slots=True, eq=False)
class PlannedField:
    schema: GraphQLSchema
    key: str
    of: SchemaField
    details: FieldDetailsList
    suggestions: bool = True
    parent: GraphQLObjectType = field(init=False)
    definition: GraphQLField = field(init=False)
    nullable: bool = field(init=False)
    check: Check | None = field(init=False)
    batched: Batched | None = field(init=False)
    nodes: list[FieldNode] = field(init=False)
    _constant: bool = field(init=False)
    _constant_call: "Call | None" = None

    def __post_init__(self) -> None:
        self.parent, self.definition, self.nullable = self.of.parent, self.of.definition, self.of.nullable
        self.check, self.batched = self.of.check, self.of.batched
        self.nodes = [detail.node for detail in self.details]
        self._constant = not any(isinstance(node, VariableNode) for node in nodes_below(*self.nodes[0].arguments or ()))

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def is_read_by_key(self) -> bool:
        return self.batched is not None and self.batched.by is not None

    def arguments(self, variables: VariableValues) -> dict[str, Any]:
        if not self.definition.args and not self.nodes[0].arguments:
            return {}
        return get_argument_values(self.definition, self.nodes[0], variables, hide_suggestions=not self.suggestions)

    def call(self, variables: VariableValues) -> Call:
        """Return the call of the batch function; raises if the arguments are invalid."""
        if self._constant_call is not None:
            return self._constant_call
        declared = self.of.declared
        assert self.batched is not None and declared is not None  # noqa: S101, PT018 - only batched fields have a call
        strawberry_schema: Any = self.schema._strawberry_schema  # type: ignore[attr-defined] # strawberry sets it
        values = self.arguments(variables)
        converted = convert_arguments(
            values,
            declared.arguments,
            scalar_registry=strawberry_schema.schema_converter.scalar_registry,
            config=strawberry_schema.config,
        )
        arguments = self.batched.arguments(**converted)
        checks = () if self.of.checks_of is None else self.of.checks_of(values)
        call = Call(self.batched.function, arguments, repr(arguments), self.of.admit, checks)
        if self._constant:
            self._constant_call = call
        return call


def _reads_parent_alone(resolver: Any) -> bool:
    parameters = list(resolver.signature.parameters.values())
    return (
        parameters == [resolver.parent_parameter]
        and parameters[0].kind is Parameter.POSITIONAL_OR_KEYWORD
        and not resolver.is_async
    )
