"""Fields that one function reads for all objects of a level."""

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


def batched(
    batch: Batch,
    *,
    by: str | None = None,
    reads: Sequence[str] | None = None,
    description: str | None = None,
    directives: Sequence[object] = (),
) -> Callable[..., Any]:
    """A field that `batch` reads once for all objects of a level.

    `batch` gets the objects, or their values under the key `by` (null gives null). `reads` names all keys of the objects
    that it uses; without it the documents are read whole. The decorated method turns the field's arguments into those of
    `batch`. A compiled plan calls `batch` itself; graphql-core calls a resolver per object, whose loader does.
    """

    def decorate(arguments: Callable[..., object]) -> Any:
        async def resolve(parent: Source, info: Info, **provided: object) -> object:
            given = parent if by is None else parent.get(by)
            return (
                None
                if given is None and by is not None
                else await info.context.load(batch, given, arguments(None, **provided))
            )

        signature = inspect.signature(arguments)
        own = list(signature.parameters.values())[1:]
        resolve.__name__, resolve.__module__ = arguments.__name__, arguments.__module__
        # Strawberry reads the field's arguments and type from the signature.
        resolve.__signature__ = signature.replace(parameters=[*_GIVEN, *own])  # type: ignore[attr-defined]
        resolve.__annotations__ = {parameter.name: parameter.annotation for parameter in [*_GIVEN, *own]} | {
            "return": signature.return_annotation
        }
        keys = None if reads is None else frozenset(reads)
        setattr(resolve, BATCHED, Batched(batch, lambda **provided: arguments(None, **provided), by, keys))
        return strawberry.field(resolver=resolve, description=description, directives=directives)

    return decorate


def reads(*keys: str) -> Callable[[Resolver], Resolver]:
    """Declare all keys of its document that a function uses. Without it the document is read whole."""

    def declare(function: Resolver) -> Resolver:
        setattr(function, READS, frozenset(keys))
        return function

    return declare
