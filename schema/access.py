"""Who may see a field: declared at the field, enforced by wrapping its resolver, denied by default at the root."""

import inspect
from collections.abc import Callable
from typing import Any

import strawberry
from graphql import GraphQLObjectType, GraphQLSchema
from strawberry.schema_directive import Location

from gateway.domain.access import Scope
from gateway.errors import ForbiddenError

strawberry.enum(Scope, description="A right of a key; none implies another.")
ROOTS = ("Query", "Mutation", "Subscription")


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="access",
    description="Which keys see this field: any of the scopes suffices. A field without it follows its parent object.",
)
class Access:
    """The rights that a field asks for."""

    scopes: list[Scope] = (Scope.READ,)  # type: ignore[assignment] # strawberry prints a tuple as the default


READ = Access()
TRACK = Access(scopes=[Scope.TRACK])
# Whatever a key may do, it may ask who it is.
ANY = Access(scopes=list(Scope))


def enforce(schema: GraphQLSchema) -> None:
    """Wrap the resolver of every field that declares its access; every root field must."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                declared = _declared(field)
                if declared is not None and type_.name == "Subscription":
                    field.subscribe = _guarded(field.subscribe, frozenset(declared.scopes))
                elif declared is not None:
                    field.resolve = _guarded(field.resolve, frozenset(declared.scopes))
                elif type_.name in ROOTS:
                    raise TypeError(f"{type_.name}.{name} does not declare its @access")


def _declared(field: Any) -> Access | None:
    definition = field.extensions.get("strawberry-definition")
    return next((item for item in definition.directives if isinstance(item, Access)), None) if definition else None


def _guarded(resolve: Callable[..., Any], any_of: frozenset[Scope]) -> Callable[..., Any]:
    def check(info: Any) -> None:
        if not info.context.principal.may(any_of):
            needed = " or ".join(sorted(scope.value for scope in any_of))
            raise ForbiddenError(f"This key may not read or do '{info.field_name}': it needs the scope {needed}.")

    if inspect.iscoroutinefunction(resolve):

        async def guarded_async(source: Any, info: Any, **arguments: Any) -> Any:
            check(info)
            return await resolve(source, info, **arguments)

        return guarded_async

    def guarded(source: Any, info: Any, **arguments: Any) -> Any:
        check(info)
        return resolve(source, info, **arguments)

    return guarded
