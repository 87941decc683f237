"""Who may read a field: declared at the field, checked in its resolver, denied by default at the root."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import strawberry
from graphql import GraphQLField, GraphQLFieldResolver, GraphQLObjectType, GraphQLResolveInfo, GraphQLSchema
from strawberry.schema_directive import Location

from gateway.core.principals import READS_LISTS, Scope
from gateway.errors import ForbiddenError
from gateway.execution.fields import GUARDED, Guarded
from resolvers.context import Context
from schema.reveals import Checks, RevealedFields

strawberry.enum(Scope, description="One right of an API key. No scope includes another.")
ROOTS = ("Query", "Mutation", "Subscription")
ChecksOf = Callable[[Mapping[str, object]], Checks]


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="access",
    description="Who may read this field: API keys with any of these scopes, and contact tokens if contactToken is true. A field without this directive follows its parent object.",
)
class Access:
    scopes: list[Scope] = (Scope.READ,)  # type: ignore[assignment] # strawberry prints a tuple as the default
    contact_token: bool = False


READ = Access()
TRACK = Access(scopes=[Scope.TRACK])
ADMIN = Access(scopes=[Scope.ADMIN])
SUPPORT = Access(scopes=[Scope.SUPPORT])
# For totalCount: most lists need READ, those of a destination its own scope.
READ_LISTS = Access(scopes=list(READS_LISTS))
# A contact token may use these too, only as its own contact.
READ_OWN = Access(contact_token=True)
TRACK_OWN = Access(scopes=[Scope.TRACK, Scope.BROWSER], contact_token=True)
SUPPORT_OWN = Access(scopes=[Scope.SUPPORT], contact_token=True)
# Every credential may ask who it is.
ANY = Access(scopes=list(Scope), contact_token=True)


def enforce(schema: GraphQLSchema) -> None:
    """Wrap each resolver whose field declares its access or whose arguments reveal restricted fields.

    Each root field must declare its access.
    """
    revealed = RevealedFields(schema, _declared)
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                declared = _declared(field)
                # A mutation returns nothing that its filter matches, so only its own access is checked.
                checks_of = None if type_.name == "Mutation" else revealed.checks_of(field)
                if declared is None and type_.name in ROOTS:
                    raise TypeError(f"{type_.name}.{name} does not declare its @access")
                if declared is not None and type_.name == "Subscription":
                    field.subscribe = _guarded(cast(GraphQLFieldResolver, field.subscribe), declared, checks_of)
                elif declared is not None or checks_of is not None:
                    _guard(field, declared, checks_of)


def _declared(field: GraphQLField) -> Access | None:
    definition = field.extensions.get("strawberry-definition")
    return next((item for item in definition.directives if isinstance(item, Access)), None) if definition else None


def _guard(field: GraphQLField, declared: Access | None, checks_of: ChecksOf | None) -> None:
    resolve = cast(GraphQLFieldResolver, field.resolve)
    field.resolve = _guarded(resolve, declared, checks_of)
    admit = _check_may_read if declared is not None and _shows_own(declared) else None
    check = None if declared is None else partial(_check, declared)
    field.extensions[GUARDED] = Guarded(check, resolve, admit, checks_of)


def _shows_own(declared: Access) -> bool:
    return declared.contact_token and set(declared.scopes) == {Scope.READ}


def _guarded(
    resolve: GraphQLFieldResolver, declared: Access | None, checks_of: ChecksOf | None = None
) -> GraphQLFieldResolver:
    shows_own = declared is not None and _shows_own(declared)

    def check(info: GraphQLResolveInfo[Context], arguments: Mapping[str, object]) -> None:
        if declared is not None:
            _check(declared, info.context, info.field_name, info.parent_type.name)
        for check_argument in checks_of(arguments) if checks_of else ():
            check_argument(info.context)

    async def guarded_async(source: object, info: GraphQLResolveInfo[Context], **arguments: object) -> object:
        check(info, arguments)
        if shows_own:
            await _check_may_read(info.context)
        result = resolve(source, info, **arguments)
        return await result if inspect.isawaitable(result) else result

    def guarded(source: object, info: GraphQLResolveInfo[Context], **arguments: object) -> object:
        check(info, arguments)
        return resolve(source, info, **arguments)

    return guarded_async if shows_own or inspect.iscoroutinefunction(resolve) else guarded


async def _check_may_read(context: Context) -> None:
    await context.check_may_read()


def _check(declared: Access, context: Context, name: str, type_name: str) -> None:
    principal, any_of = context.principal, frozenset(declared.scopes)
    if principal.contact_id is not None:
        if not declared.contact_token:
            raise ForbiddenError(f"A contact token may not use '{name}': leave it out, or call it with an API key.")
    elif not principal.may(any_of):
        needed = " or ".join(sorted(scope.value for scope in any_of))
        raise ForbiddenError(f"This API key may not use '{name}': it needs the scope {needed}.")
    elif type_name == "Mutation" and principal.scopes & any_of == {Scope.BROWSER} and not context.from_page:
        raise ForbiddenError(
            f"An API key with the scope BROWSER may use '{name}' only from pages of the allowed origins: "
            "add the page's origin to GATEWAY_ALLOWED_ORIGINS, or use a key with another scope on your server."
        )
