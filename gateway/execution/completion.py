"""Completes values as graphql-core does, with the decisions made once per field instead of once per value."""

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
# Compiled functions of a plan. `Select` completes one object at a path:
Select: TypeAlias = Callable[[Any, ExecutionRun, ResponsePath | None], dict[str, Any]]
# `SelectAll` completes a list: the items, the run, the list's path, whether items may be null, the function for items
# that are not dicts, and the list's field:
SelectAll: TypeAlias = Callable[[list[Any], ExecutionRun, ResponsePath, bool, Complete, PlannedField], list[Any]]


class Selects(Protocol):
    """Compiles the functions that complete the objects of a field."""

    def __call__(self, type_: GraphQLObjectType) -> Select: ...

    def all_of(self, type_: GraphQLObjectType) -> SelectAll: ...


# Values of these types are neither exceptions nor awaitables, so no check is needed.
PLAIN = frozenset({str, int, float, bool, dict, list})


@dataclass(frozen=True, slots=True)
class PassThrough:
    """A serializer for values that the JSON encoder mostly accepts as they are.

    `condition`: Python source that is true when the value `{0}` needs no conversion; `names`: the objects it refers to.
    `write`: converts all other values."""

    write: Callable[[Any], Any]
    condition: str
    names: Mapping[str, Any]

    def __call__(self, value: Any) -> Any:
        return self.write(value)


def unchanged(value: Any) -> Any:
    return value


PLAIN_JSON = PassThrough(unchanged, "type({0}) in PLAIN", {"PLAIN": PLAIN})


def finisher(planned: PlannedField, complete: Complete) -> Callable[[Any, ExecutionRun, ResponsePath | None], Any]:
    """Return a function that completes a field's value; an exception becomes a field error at its path."""
    key, parent, nullable = planned.key, planned.parent.name, planned.nullable

    def finish(value: Any, run: ExecutionRun, path: ResponsePath | None) -> Any:
        field_path = (path, key, parent, nullable)
        try:
            if type(value) not in PLAIN and is_awaitable(value):
                return run.defer_awaitable(planned, value, field_path, complete)
            return complete(value, run, field_path)
        except Exception as error:
            return run.fail(error, planned, field_path)

    return finish


def completer(type_: GraphQLOutputType, planned: PlannedField, selects: Selects) -> Complete:
    if is_non_null_type(type_):
        return _non_null(completer(type_.of_type, planned, selects), planned)
    if is_list_type(type_):
        return _list(type_.of_type, planned, selects)
    if is_leaf_type(type_):
        return _leaf(type_)
    if is_object_type(type_):
        return _object(type_, planned, selects)
    return _abstract(type_, planned, selects)  # type: ignore[arg-type] # only abstract types remain


def _non_null(inner: Complete, planned: PlannedField) -> Complete:
    message = f"Cannot return null for non-nullable field {planned.parent}.{planned.name}."

    def complete(value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        completed = inner(value, run, path)
        if completed is None:
            raise TypeError(message)
        return completed

    return complete


def _leaf(type_: GraphQLLeafType) -> Complete:
    coerce = type_.coerce_output_value

    def complete(value: Any, run: ExecutionRun, _path: ResponsePath) -> Any:
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        coerced = coerce(value)
        return run.executor.complete_leaf_value(type_, value) if coerced is None or coerced is Undefined else coerced

    return complete


def _list(item_type: GraphQLOutputType, planned: PlannedField, selects: Selects) -> Complete:
    nullable, element_type = not is_non_null_type(item_type), get_nullable_type(item_type)
    inner = completer(item_type, planned, selects)
    plain = element_type if is_object_type(element_type) and _type_check_of(element_type) is None else None
    select_all: SelectAll | None = None
    message = f"Expected Iterable, but did not find one for field '{planned.parent}.{planned.name}'."

    def item(value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        try:
            if type(value) not in PLAIN and is_awaitable(value):
                return run.defer_awaitable(planned, value, path, inner)
            return inner(value, run, path)
        except Exception as error:
            return run.fail(error, planned, path)

    def complete_items(value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        nonlocal select_all
        if isinstance(value, Exception):
            raise value
        if plain is None or not value:
            return [item(element, run, (path, index, None, nullable)) for index, element in enumerate(value)]
        if select_all is None:
            select_all = selects.all_of(plain)  # compiled when the first object arrives
        return select_all(value, run, path, nullable, item, planned)

    def complete(value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        if value is None or value is Undefined:
            return None
        if type(value) is not list and not isinstance(value, Exception):
            if is_async_iterable(value):
                return run.defer_awaitable(planned, _collected(value), path, complete_items)
            if not is_iterable(value):
                raise GraphQLError(message)
        return complete_items(value, run, path)

    return complete


async def _collected(values: Any) -> Iterable[Any]:
    return [value async for value in values]


def _object(type_: GraphQLObjectType, planned: PlannedField, selects: Selects) -> Complete:
    select: Select | None = None
    is_type_of = _type_check_of(type_)
    needs_info = is_type_of is not None and not is_ignored(is_type_of, 1)

    def complete(value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        nonlocal select
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        if is_type_of is not None and not is_type_of(value, run.info(planned, path) if needs_info else None):
            raise invalid_return_type_error(type_, value, planned.details)
        if select is None:
            select = selects(type_)  # compiled when the first object arrives
        return select(value, run, path)

    return complete


def _type_check_of(type_: GraphQLObjectType) -> Any:
    """Return `is_type_of`, or None if it accepts every value."""
    check = type_.is_type_of
    if check is not None and is_ignored(check, 0) and is_ignored(check, 1) and check(None, None) is True:  # type: ignore[arg-type]
        return None
    return check


def _abstract(type_: GraphQLAbstractType, planned: PlannedField, selects: Selects) -> Complete:
    completers: dict[Any, Complete] = {}
    needs_info = type_.resolve_type is None or not is_ignored(type_.resolve_type, 1)

    def expand(runtime_type: GraphQLObjectType) -> Complete:
        complete_object = completers[runtime_type.name] = _object(runtime_type, planned, selects)
        return complete_object

    def complete_as(name: Any, value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        valid, info = run.executor.ensure_valid_runtime_type, run.info(planned, path)
        return expand(valid(name, type_, planned.details, info, value))(value, run, path)

    def complete(value: Any, run: ExecutionRun, path: ResponsePath) -> Any:
        if value is None or value is Undefined:
            return None
        if isinstance(value, Exception):
            raise value
        resolve_type = type_.resolve_type or run.executor.type_resolver
        name = resolve_type(value, run.info(planned, path) if needs_info else None, type_)  # type: ignore[arg-type]
        complete_object = completers.get(name) if type(name) is str else None
        return complete_as(name, value, run, path) if complete_object is None else complete_object(value, run, path)

    return complete


def is_ignored(function: Callable[..., Any], position: int) -> bool:
    """Whether the function's argument at this position is unused, which a leading underscore in its name says."""
    names = list(inspect.signature(function).parameters)
    return len(names) > position and names[position].startswith("_")
