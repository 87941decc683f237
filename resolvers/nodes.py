"""Resolvers of the caller, and of objects by id."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from gateway.core.ids import Prefix, prefix_of
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.workspaces import WorkspaceDocument
from gateway.errors import BadRequestError
from resolvers.context import Context, Payload, Source
from resolvers.tickets import parts_by_id

MAX_IDS = 100


async def nodes(context: Context, ids: Sequence[str]) -> list[Source | None]:
    """The objects of these ids, in their order, with one read per type."""
    if len(ids) > MAX_IDS:
        raise BadRequestError(f"'ids' has {len(ids)} ids; the limit is {MAX_IDS}.")
    store = context.store
    documents: dict[str, Source] = {}
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
        documents |= await repository.by_ids([id_ for id_ in dict.fromkeys(ids) if prefix_of(id_) is prefix])
    documents |= await store.contacts.of_ids([id_ for id_ in dict.fromkeys(ids) if prefix_of(id_) is Prefix.CONTACT])
    documents |= await parts_by_id(context, [id_ for id_ in dict.fromkeys(ids) if prefix_of(id_) is Prefix.TICKET_PART])
    for read_nodes in context.services.node_readers:
        documents |= await read_nodes(context, list(dict.fromkeys(ids)))
    me = viewer(context)
    if me["_id"] in ids:
        documents[me["_id"]] = me
    if context.principal.workspace_id in ids and (mine := await workspace(context)) is not None:
        documents[context.principal.workspace_id] = mine
    return [documents.get(id_) for id_ in ids]


async def visible(payload: Payload, context: Context) -> Payload:
    if context.principal.contact_id is None:
        return payload
    documents = [row for value in payload.values() for row in _documents(value)]
    seen = await _seen(documents, context) if documents and await context.may_read() else {}
    return {name: _shown(value, seen) for name, value in payload.items()}


async def _seen(documents: Sequence[Document], context: Context) -> dict[str, Source]:
    """The documents that a token may see, by id, as they are now. An event never changes: only its contact matters."""
    events = [row for row in documents if prefix_of(row["_id"]) is Prefix.EVENT]
    seen: dict[str, Source] = {row["_id"]: row for row in events if context.principal.owns(row["contact_id"])}
    node_ids = [row["_id"] for row in documents if prefix_of(row["_id"]) is not Prefix.EVENT]
    rows = await nodes(context, node_ids) if node_ids else []
    return seen | {str(row["_id"]): row for row in rows if row is not None}


def _documents(value: object) -> list[Document]:
    rows = value if isinstance(value, list) else [value]
    return [row for row in rows if isinstance(row, dict) and "_id" in row]


def _shown(value: object, seen: Mapping[str, Source]) -> object:
    if isinstance(value, list):
        return [_shown(row, seen) for row in value]
    return seen.get(value["_id"]) if isinstance(value, dict) and "_id" in value else value


def viewer(context: Context) -> Document:
    principal = context.principal
    return {"_id": principal.id, "scopes": sorted(scope.value for scope in principal.scopes)}


async def contact(context: Context) -> ContactDocument | None:
    """None for a key, and if the token may not read."""
    own = context.principal.contact_id
    return None if own is None else await context.store.contacts.get(own)


async def rate_limits(context: Context) -> list[Document]:
    return [asdict(state) for state in context.services.rate_limits.of(context.principal.id).states()]


async def workspace(context: Context) -> WorkspaceDocument | None:
    return await context.services.store.workspaces.find(context.principal.workspace_id)
