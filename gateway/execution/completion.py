"""How values are completed: as graphql-core does it, decided once for each field instead of for each value."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from graphql import (
    GraphQLAbstractType,
    GraphQLError,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    Undefined,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import is_iterable
from graphql.pyutils.is_awaitable import is_async_iterable, is_awaitable

from gateway.execution.execution_run import ExecutionRun
from gateway.execution.fields import PlannedField
from gateway.execution.paths import ResponsePath

Complete: TypeAlias = Callable[[Any, ExecutionRun, ResponsePath], Any]
# Functions that a plan compiled. The answer for one object, found at a place:
Select: TypeAlias = Callable[[Any, ExecutionRun, ResponsePath | None], dict[str, Any]]
# The answers for a list at a place, whether its items may be null, what completes an item that is no dictionary, and the
# field that leads to them:
SelectAll: TypeAlias = Callable[[list[Any], ExecutionRun, ResponsePath, bool, Complete, PlannedField], list[Any]]


class Selects(Protocol):
    """Compiles the functions that answer for the objects a field leads to."""

    def __call__(self, type_: GraphQLObjectType) -> Select:
        """The function that answers for objects of that type."""

    def all_of(self, type_: GraphQLObjectType) -> SelectAll:
        """The function that answers for lists of objects of that type."""


# Values of these types are neither exceptions nor awaitable: nothing needs to be asked of them.
PLAIN = frozenset({str, int, float, bool, dict, list})


@dataclass(frozen=True, slots=True)
class PassThrough:
    """A serializer whose values are mostly sent as they are, since JSON's writer knows them: `write` makes it of the others.

    `condition`: whether `{0}` is one, in Python; `names`: what it names."""

    write: Callable[[Any], Any]
    condition: str
    names: Mapping[str, Any]

    def __call__(self, value: Any) -> Any:
        """What is sent of a value."""
        return self.write(value)


def unchanged(value: Any) -> Any:
    """The value."""
    return value


PLAIN_JSON = PassThrough(unchanged, "type({0}) in PLAIN", {"PLAIN": PLAIN})


def finisher(planned: PlannedField, complete: Complete) -> Callable[[Any, ExecutionRun, ResponsePath | None], Any]:
    """What makes a field's value of what was read, at the place of its object: exceptions become errors there."""
    key, parent, nullable = planned.key, planned.parent.name, planned.nullable

    def finish(value: Any, run: ExecutionRun, place: ResponsePath | None) -> Any:
        here = (place, key, parent, nullable)
        try:
            if type(value) not in PLAIN and is_awaitable(value):
                return run.defer_awaitable(planned, value, here, complete)
            return complete(value, run, here)
        except Exception as error:
            return run.fail(error, planned, here)

    return finish


def completer(type_: GraphQLOutputType, planned: PlannedField, selects: Selects) -> Complete:
    """What completes a value of that type."""
    if is_non_null_type(type_):
        return _non_null(completer(type_.of_type, planned, selects), planned)
    if is_list_type(type_):
        return _list(type_.of_type, planned, selects)
    if is_leaf_type(type_):
        return _leaf(type_)
    if is_object_type(type_):
        return _object(type_, planned, selects)
    return _abstract(type_, planned, selects)  # type: ignore[arg-type] # no other type is left


def _non_null(inner: Complete, planned: PlannedField) -> Complete:
    message = f"Cannot return null for non-nullable field {planned.parent}.{planned.name}."

    def complete(value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        completed = inner(value, run, place)
        if completed is None:
            raise TypeError(message)
        return completed

    return complete


def _leaf(type_: GraphQLLeafType) -> Complete:
    coerce = type_.coerce_output_value

    def complete(value: Any, run: ExecutionRun, _place: ResponsePath) -> Any:
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        coerced = coerce(value)
        return run.executor.complete_leaf_value(type_, value) if coerced is None or coerced is Undefined else coerced

    return complete


def _list(item_type: GraphQLOutputType, planned: PlannedField, selects: Selects) -> Complete:
    nullable, element = not is_non_null_type(item_type), get_nullable_type(item_type)
    inner = completer(item_type, planned, selects)
    plain = element if is_object_type(element) and _selected_of(element) is None else None
    select_all: SelectAll | None = None
    message = f"Expected Iterable, but did not find one for field '{planned.parent}.{planned.name}'."

    def item(value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        try:
            if type(value) not in PLAIN and is_awaitable(value):
                return run.defer_awaitable(planned, value, place, inner)
            return inner(value, run, place)
        except Exception as error:
            return run.fail(error, planned, place)

    def complete_items(value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        nonlocal select_all
        if isinstance(value, Exception):
            raise value
        if plain is None or not value:
            return [item(one, run, (place, index, None, nullable)) for index, one in enumerate(value)]
        if select_all is None:
            select_all = selects.all_of(plain)  # now, as the first object is met
        return select_all(value, run, place, nullable, item, planned)

    def complete(value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        if value is None or value is Undefined:
            return None
        if type(value) is not list and not isinstance(value, Exception):
            if is_async_iterable(value):
                return run.defer_awaitable(planned, _collected(value), place, complete_items)
            if not is_iterable(value):
                raise GraphQLError(message)
        return complete_items(value, run, place)

    return complete


async def _collected(values: Any) -> Iterable[Any]:
    return [value async for value in values]


def _object(type_: GraphQLObjectType, planned: PlannedField, selects: Selects) -> Complete:
    select: Select | None = None
    is_type_of = _selected_of(type_)
    asks_info = is_type_of is not None and not is_ignored(is_type_of, 1)

    def complete(value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        nonlocal select
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        if is_type_of is not None and not is_type_of(value, run.info(planned, place) if asks_info else None):
            raise invalid_return_type_error(type_, value, planned.details)
        if select is None:
            select = selects(type_)  # now, as the first object is met
        return select(value, run, place)

    return complete


def _selected_of(type_: GraphQLObjectType) -> Any:
    """What objects of that type are asked by whether they are; None where whatever is asked passes."""
    asked = type_.is_type_of
    if asked is not None and is_ignored(asked, 0) and is_ignored(asked, 1) and asked(None, None) is True:  # type: ignore[arg-type]
        return None
    return asked


def _abstract(type_: GraphQLAbstractType, planned: PlannedField, selects: Selects) -> Complete:
    known: dict[Any, Complete] = {}
    asks_info = type_.resolve_type is None or not is_ignored(type_.resolve_type, 1)

    def expand(runtime_type: GraphQLObjectType) -> Complete:
        found = known[runtime_type.name] = _object(runtime_type, planned, selects)
        return found

    def complete_as(name: Any, value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        valid, info = run.executor.ensure_valid_runtime_type, run.info(planned, place)
        return expand(valid(name, type_, planned.details, info, value))(value, run, place)

    def complete(value: Any, run: ExecutionRun, place: ResponsePath) -> Any:
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        resolve_type = type_.resolve_type or run.executor.type_resolver
        name = resolve_type(value, run.info(planned, place) if asks_info else None, type_)  # type: ignore[arg-type]
        found = known.get(name) if type(name) is str else None
        return complete_as(name, value, run, place) if found is None else found(value, run, place)

    return complete


def is_ignored(function: Callable[..., Any], position: int) -> bool:
    """Whether a function says, by the name that it gives the argument at that position, that it does not look at it."""
    names = list(inspect.signature(function).parameters)
    return len(names) > position and names[position].startswith("_")
