"""Fields as plans know them: how each is declared, and what one of a selection set asks for."""

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
    Visitor,
    get_named_type,
    is_leaf_type,
    is_non_null_type,
    visit,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.values import VariableValues, get_argument_values
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

# One result (or exception) per parent, in their order; the last one is the operation's context.
Batch = Callable[[Sequence[Any], Any, Any], Awaitable[Sequence[Any]]]
# Passes where the asker may see the field of that name and type, and raises where not.
Check = Callable[[Any, str, str], None]
Admit = Callable[[Any], Awaitable[None]]
# Of a field's arguments, by their names in the schema: what is called with the context, and raises where the asker may not.
ChecksOf = Callable[[Mapping[str, Any]], Sequence[Callable[[Any], None]]]

BATCHED = "__batched__"
GUARDED = "gateway-guarded"
READS = "__reads__"
_STRAWBERRYS = "strawberry.schema.schema_converter"


@dataclass(frozen=True, slots=True)
class Batched:
    """How a field's values are read for a whole level at once: `arguments` makes the batch function's of the field's own.

    `by`: the key of each object whose value the function is given, and null where there is none; None: the object itself.
    `reads`: the keys that it looks at then; None: it may look at any."""

    function: Batch
    arguments: Callable[..., Any]
    by: str | None = None
    reads: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A resolver behind a check that depends on nothing but who asks, so that once per operation is enough.

    `check`: None where everybody may see it. `admit`: what must pass besides, with the context, and takes time: once for each
    call of a batch function is enough. `checks_of`: what must pass by the arguments of the field."""

    check: Check | None
    resolve: Callable[..., Any]
    admit: "Admit | None" = None
    checks_of: "ChecksOf | None" = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What is read of documents: those keys (None: any), and whether their values are `shown` as they are and looked at by nobody."""

    keys: frozenset[str] | None = frozenset()
    shown: bool = True

    def __or__(self, other: "Reads") -> "Reads":
        """What is read by both."""
        known = self.keys is not None and other.keys is not None
        return Reads(self.keys | other.keys if known else None, self.shown and other.shown)  # type: ignore[operator]


class Call(NamedTuple):
    """A batch function, its arguments and what must pass first; fields with equal ones, by `key`, share the call."""

    function: Batch
    arguments: Any
    key: str
    admit: Admit | None
    checks: Sequence[Callable[[Any], None]]


class Reading(Enum):
    """How a field's value is found."""

    TYPE_NAME = "the name of the object's type"
    KEY = "a key of the document"
    FUNCTION = "a function of the document alone"
    BATCH = "a batch function, once for the level"
    RESOLVER = "a resolver of its own"


@dataclass(slots=True, eq=False)
class PlannedField:
    """A field of a selection set."""

    schema: GraphQLSchema
    key: str
    parent: GraphQLObjectType
    definition: GraphQLField
    details: FieldDetailsList
    reading: Reading = Reading.RESOLVER
    check: Check | None = None
    admit: Admit | None = None
    checks_of: ChecksOf | None = None
    function: Callable[[Any], Any] | None = None
    batched: Batched | None = None
    nodes: list[FieldNode] = field(init=False)
    nullable: bool = field(init=False)
    complete: Callable[[Any, Any, Any], Any] = field(init=False)  # set once the fields below it are compiled
    _constant: bool = field(init=False)
    _called: "Call | None" = None

    def __post_init__(self) -> None:
        self.nodes = [one.node for one in self.details]
        self.nullable = not is_non_null_type(self.definition.type)
        self._constant = not any(_names_variable(argument) for argument in self.nodes[0].arguments or ())
        self._choose_reading()

    @property
    def name(self) -> str:
        """The field's name in the schema."""
        return self.nodes[0].name.value

    @property
    def asks_by_key(self) -> bool:
        """Whether its batch function is given what objects have under a key, and not the objects."""
        return self.batched is not None and self.batched.by is not None

    @property
    def declared(self) -> StrawberryField | None:
        """The field as strawberry knows it."""
        found = (self.definition.extensions or {}).get("strawberry-definition")
        return found if isinstance(found, StrawberryField) else None

    def reads(self, key_of: Callable[[str], str]) -> Reads:
        """What of a document its value depends on."""
        if self.reading is Reading.TYPE_NAME:
            return Reads()
        if self.reading is Reading.KEY and self.declared is not None:
            return Reads(
                frozenset({key_of(self.declared.python_name)}), is_leaf_type(get_named_type(self.definition.type))
            )
        if self.batched is not None:
            return Reads(self.batched.reads if self.batched.by is None else frozenset({self.batched.by}), shown=False)
        resolver = None if self.declared is None else self.declared.base_resolver
        return Reads(None if resolver is None else getattr(resolver.wrapped_func, READS, None), shown=False)

    def arguments(self, variables: VariableValues) -> dict[str, Any]:
        """The values of its arguments."""
        if not self.definition.args and not self.nodes[0].arguments:
            return {}
        return get_argument_values(self.definition, self.nodes[0], variables)

    def call(self, variables: VariableValues) -> Call:
        """What its batch function is called with; whatever is wrong with its arguments is raised."""
        if self._called is not None:
            return self._called
        assert self.batched is not None and self.declared is not None  # noqa: S101, PT018 - only batched fields are called
        strawberrys: Any = self.schema._strawberry_schema  # type: ignore[attr-defined] # strawberry leaves it there
        given = self.arguments(variables)
        sent = convert_arguments(
            given,
            self.declared.arguments,
            scalar_registry=strawberrys.schema_converter.scalar_registry,
            config=strawberrys.config,
        )
        arguments = self.batched.arguments(**sent)
        checks = () if self.checks_of is None else self.checks_of(given)
        called = Call(self.batched.function, arguments, repr(arguments), self.admit, checks)
        if self._constant:
            self._called = called
        return called

    def _choose_reading(self) -> None:
        if self.name == "__typename":
            self.reading = Reading.TYPE_NAME
            return
        guarded, declared = (self.definition.extensions or {}).get(GUARDED), self.declared
        resolve = self.definition.resolve if guarded is None else guarded.resolve
        # Whatever else stands around strawberry's own resolver is called, as it may refuse.
        if getattr(resolve, "__module__", None) != _STRAWBERRYS or declared is None or declared.extensions:
            return
        resolver = declared.base_resolver
        if resolver is None:
            if not declared.is_basic_field or self.definition.args:
                return
            self.reading = Reading.KEY
        elif hasattr(resolver.wrapped_func, BATCHED):
            self.reading, self.batched = Reading.BATCH, getattr(resolver.wrapped_func, BATCHED)
        elif _reads_parent_alone(resolver):
            self.reading, self.function = Reading.FUNCTION, cast("Any", resolver.wrapped_func)
        if guarded is not None and guarded.admit is not None and self.reading is not Reading.BATCH:
            self.reading, self.function = Reading.RESOLVER, None
        if self.reading is not Reading.RESOLVER and guarded is not None:
            self.check, self.admit, self.checks_of = guarded.check, guarded.admit, guarded.checks_of


def _reads_parent_alone(resolver: Any) -> bool:
    parameters = list(resolver.signature.parameters.values())
    return (
        parameters == [resolver.parent_parameter]
        and parameters[0].kind is Parameter.POSITIONAL_OR_KEYWORD
        and not resolver.is_async
    )


def _names_variable(node: Any) -> bool:
    class Finder(Visitor):
        found = False

        def enter_variable(self, _node: VariableNode, *_: Any) -> None:
            self.found = True

    finder = Finder()
    visit(node, finder)
    return finder.found
