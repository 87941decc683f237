"""What each field of a schema costs, read once from what it declares."""

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

# The lists of introspection, as long as those of this schema are on average.
_INTROSPECTION = {"types": 200, "fields": 5, "args": 3, "inputFields": 3, "enumValues": 3, "directives": 10}


@dataclass(frozen=True, slots=True)
class FieldCost:
    """What one field costs.

    `shows`: how many rows it shows itself, each time; `size`: of its list without arguments that say it, None where it is
    none; `slicing`: the arguments that say it, and whether they are lists; `sizes`: whether it is the size of fields below,
    and `counts_page`: whether that many rows count whatever of them is selected; `is_sized`: whether its size is that of the
    field above; `filters`: its arguments with filters, by their types; `weights`: of arguments, by name; `searches`: whether
    it looks through the list above again."""

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
    """The fields of a schema that cost something or lead to others, by type and name."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.filters = FilterTypes(_filter_weights(schema))
        self._schema = schema
        self._sized = dict(_sized_fields(schema))
        self._fields = {type_.name: dict(self._costs_of(type_)) for type_ in _types(schema)}

    def fields_of(self, type_name: str) -> Mapping[str, FieldCost]:
        """What the fields of that type cost; those that are not there cost nothing and have no fields."""
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
        """Whether a field counts as a row: at the root, where it is one of a mutation's results (those of a connection count
        with its page), or where something is read for it of each object that it belongs to."""
        if type_ is self._schema.query_type:
            return True
        if holder is not None:
            return holder is self._schema.mutation_type
        if type_ in (self._schema.mutation_type, self._schema.subscription_type) or declared(definition, Cost):
            return False
        field_ = (definition.extensions or {}).get("strawberry-definition")
        return bool(getattr(getattr(field_, "base_resolver", None), "is_async", False))


def declared(of: Any, directive: type) -> Any:
    """The directive of that class that a field, an argument or an input declares; None where it declares none."""
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
    """Each field whose size is that of a field above it, and the type of that field."""
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
