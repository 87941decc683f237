"""The cost of each field, read once from the schema's directives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)
from strawberry import UNSET

from resolvers.costs import Cost, ListSize
from schema.filter_limits import FilterTypes

# The average length of introspection's lists in this schema.
_INTROSPECTION = {"types": 200, "fields": 5, "args": 3, "inputFields": 3, "enumValues": 3, "directives": 10}


@dataclass(frozen=True, slots=True)
class FieldCost:
    """The cost of one field.

    `shows`: rows that it returns per parent. `size`: of its list without slicing arguments; None if it is no list.
    `slicing`: the arguments that give the size, and whether they are lists. `sizes`: its size applies to fields below.
    `counts_page`: the size counts as rows whatever is selected. `is_sized`: its size is that of the field above.
    `filters`: its filter arguments by input type. `weights`: of arguments by name. `searches`: it scans the list above again.
    """

    type_: GraphQLNamedType
    shows: int = 0
    weight: int = 0
    size: int | None = None
    slicing: tuple[tuple[str, bool], ...] = ()
    sizes: bool = False
    counts_page: bool = False
    is_sized: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    searches: bool = False


class CostTable:
    """The fields that cost something or lead to others, by type and name."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.filters = FilterTypes(_filter_weights(schema))
        self._schema = schema
        self._sized = dict(_sized_fields(schema))
        self._fields = {type_.name: dict(self._costs_of(type_)) for type_ in _types(schema)}

    def fields_of(self, type_name: str) -> Mapping[str, FieldCost]:
        """Fields that are not listed cost nothing and have no fields."""
        return self._fields.get(type_name, {})

    def _costs_of(self, type_: GraphQLObjectType | GraphQLInterfaceType) -> Iterator[tuple[str, FieldCost]]:
        for name, definition in type_.fields.items():
            cost = self._cost_of(type_, name, definition)
            if is_composite_type(cost.type_) or cost.weight or cost.shows:
                yield name, cost
        if type_ is self._schema.query_type:
            yield "__schema", FieldCost(self._schema.type_map["__Schema"], shows=1)
            yield "__type", FieldCost(self._schema.type_map["__Type"], shows=1)

    def _cost_of(
        self, type_: GraphQLObjectType | GraphQLInterfaceType, name: str, definition: GraphQLField
    ) -> FieldCost:
        list_, shown = declared(definition, ListSize), get_named_type(definition.type)
        is_list = is_composite_type(shown) and is_list_type(get_nullable_type(definition.type))
        holder = self._sized.get((type_.name, name))
        weight = declared(definition, Cost)
        size, slicing, sizes = _size_of(list_, definition)
        if type_.name.startswith("__") and is_list:
            size = _INTROSPECTION.get(name, 1)
        return FieldCost(
            shown,
            shows=int(self._shows_row(type_, definition, holder)),
            weight=0 if weight is None else weight.weight,
            size=size,
            slicing=slicing,
            sizes=sizes,
            counts_page=sizes and type_ is not self._schema.mutation_type,
            is_sized=holder is not None,
            filters={
                argument: named.name
                for argument, given in definition.args.items()
                if self.filters.has_filters(named := get_named_type(given.type))
            },
            weights={
                argument: cost.weight
                for argument, given in definition.args.items()
                if (cost := declared(given, Cost)) is not None
            },
            searches=weight is not None and any(type_.name == sized for sized, _ in self._sized),
        )

    def _shows_row(self, type_: GraphQLNamedType, definition: GraphQLField, holder: GraphQLNamedType | None) -> bool:
        """A field counts as a row at the root, as one of a mutation's results, and if each parent needs a read for it.

        The rows of a connection are counted with its page.
        """
        if type_ is self._schema.query_type:
            return True
        if holder is not None:
            return holder is self._schema.mutation_type
        if type_ in (self._schema.mutation_type, self._schema.subscription_type) or declared(definition, Cost):
            return False
        field_ = (definition.extensions or {}).get("strawberry-definition")
        return bool(getattr(getattr(field_, "base_resolver", None), "is_async", False))


def declared(of: Any, directive: type) -> Any:
    definition = (of.extensions or {}).get("strawberry-definition")
    return next(
        (candidate for candidate in getattr(definition, "directives", ()) if isinstance(candidate, directive)), None
    )


def _types(schema: GraphQLSchema) -> Iterator[GraphQLObjectType | GraphQLInterfaceType]:
    return (type_ for type_ in schema.type_map.values() if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType))


def _filter_weights(schema: GraphQLSchema) -> Iterator[tuple[GraphQLInputObjectType, int]]:
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLInputObjectType):
            cost = declared(type_, Cost)
            yield type_, 0 if cost is None else cost.weight


def _sized_fields(schema: GraphQLSchema) -> Iterator[tuple[tuple[str, str], GraphQLNamedType]]:
    """Each field whose size is that of a field above it, with its parent type."""
    for type_ in _types(schema):
        for definition in type_.fields.values():
            list_ = declared(definition, ListSize)
            for name in (list_ and list_.sized_fields) or ():
                yield (get_named_type(definition.type).name, name), type_


def _size_of(list_: ListSize | None, definition: GraphQLField) -> tuple[int | None, tuple[tuple[str, bool], ...], bool]:
    if list_ is None:
        return None, (), False
    slicing = tuple((path, _is_list(path, definition)) for path in list_.slicing_arguments or ())
    return 1 if list_.assumed_size is UNSET else list_.assumed_size, slicing, bool(list_.sized_fields)


def _is_list(path: str, definition: GraphQLField) -> bool:
    name, *inner = path.split(".")
    type_ = definition.args[name].type
    for key in inner:
        type_ = get_named_type(type_).fields[key].type  # type: ignore[attr-defined] # a path leads through inputs
    return is_list_type(get_nullable_type(type_))
