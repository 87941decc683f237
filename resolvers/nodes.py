"""How anything with an id is found, and who is asking."""

from collections.abc import Sequence
from dataclasses import asdict

from gateway.domain.contacts import Document
from gateway.domain.ids import Prefix, prefix_of
from gateway.errors import BadRequestError
from resolvers import klaviyo
from resolvers.contexts import Context
from resolvers.tickets import parts_by_id

MAX_IDS = 100


async def nodes(context: Context, ids: Sequence[str]) -> list[Document | None]:
    """What has those ids, in their order: one read per type."""
    if len(ids) > MAX_IDS:
        raise BadRequestError(f"'ids' has {len(ids)} ids, and {MAX_IDS} are allowed.")
    store = context.store
    found: dict[str, Document] = {}
    for prefix, repository in (
        (Prefix.EVENT, store.events),
        (Prefix.SUMMARY, store.summaries),
        (Prefix.DEFINITION, store.definitions),
        (Prefix.ADMIN, store.admins),
        (Prefix.TEAM, store.teams),
        (Prefix.RULE, store.message_rules),
        (Prefix.CONVERSATION, store.conversations),
        (Prefix.CONVERSATION_PART, store.conversation_parts),
        (Prefix.TICKET, store.tickets),
        (Prefix.TICKET_TYPE, store.ticket_types),
        (Prefix.SEGMENT, store.segments),
    ):
        found |= await repository.by_ids([id_ for id_ in dict.fromkeys(ids) if prefix_of(id_) is prefix])
    found |= await store.contacts.of_ids([id_ for id_ in dict.fromkeys(ids) if prefix_of(id_) is Prefix.CONTACT])
    found |= await parts_by_id(context, [id_ for id_ in dict.fromkeys(ids) if prefix_of(id_) is Prefix.TICKET_PART])
    found |= await klaviyo.nodes(context, list(dict.fromkeys(ids)))
    me = viewer(context)
    if me["_id"] in ids:
        found[me["_id"]] = me
    if context.principal.workspace_id in ids and (mine := await workspace(context)) is not None:
        found[context.principal.workspace_id] = mine
    return [found.get(id_) for id_ in ids]


def viewer(context: Context) -> Document:
    """Who is asking."""
    principal = context.principal
    return {"_id": principal.id, "scopes": sorted(scope.value for scope in principal.scopes)}


async def contact(context: Context) -> Document | None:
    """Whose token asks; None for a key, and where the token may not read."""
    own = context.principal.contact_id
    return None if own is None else (await context.store.contacts.by_ids([own])).get(own)


async def rate_limits(context: Context) -> list[Document]:
    """Each limit of who is asking, as it is now."""
    return [asdict(state) for state in await context.services.rate_limits.of(context.principal.id).states()]


async def workspace(context: Context) -> Document | None:
    """The workspace of who is asking."""
    return await context.services.store.workspaces.find(context.principal.workspace_id)
