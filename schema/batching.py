"""Fields whose values are read for a whole level of an operation at once."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import strawberry
from strawberry import Info, Parent

from gateway.execution.fields import BATCHED, READS, Batched
from resolvers.context import Batch, Source

Resolver = TypeVar("Resolver", bound=Callable[..., object])
_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_GIVEN = [
    inspect.Parameter("parent", _POSITIONAL, annotation=Parent[Source]),
    inspect.Parameter("info", _POSITIONAL, annotation=Info),
]


def by_level(
    batch: Batch,
    *,
    by: str | None = None,
    reads: Sequence[str] | None = None,
    description: str | None = None,
    directives: Sequence[object] = (),
) -> Callable[..., Any]:
    """A field that the batch function answers, once for all objects of the level.

    The batch function is given the objects, or what they have under the key `by` (where that is null, so is the field).
    `reads`: all keys of the objects that it looks at; where it is not said they are read whole from the database.
    The method that is decorated makes its `arguments` of the field's own. A compiled plan calls the batch
    function itself; graphql-core calls a resolver for each object, whose loader does the same.
    """

    def decorate(arguments: Callable[..., object]) -> Any:
        async def resolve(parent: Source, info: Info, **sent: object) -> object:
            given = parent if by is None else parent.get(by)
            return (
                None
                if given is None and by is not None
                else await info.context.load(batch, given, arguments(None, **sent))
            )

        signature = inspect.signature(arguments)
        own = list(signature.parameters.values())[1:]
        resolve.__name__, resolve.__module__, resolve.__doc__ = (
            arguments.__name__,
            arguments.__module__,
            arguments.__doc__,
        )
        resolve.__signature__ = signature.replace(parameters=[*_GIVEN, *own])  # type: ignore[attr-defined]
        resolve.__annotations__ = {parameter.name: parameter.annotation for parameter in [*_GIVEN, *own]} | {
            "return": signature.return_annotation
        }
        keys = None if reads is None else frozenset(reads)
        setattr(resolve, BATCHED, Batched(batch, lambda **sent: arguments(None, **sent), by, keys))
        return strawberry.field(resolver=resolve, description=description, directives=directives)

    return decorate


def reads(*keys: str) -> Callable[[Resolver], Resolver]:
    """Say all keys of its document that a function or resolver looks at: else that is read whole where it is asked for."""

    def declare(function: Resolver) -> Resolver:
        setattr(function, READS, frozenset(keys))
        return function

    return declare
