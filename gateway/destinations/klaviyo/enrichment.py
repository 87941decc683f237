"""Loads conversations and tickets with all that their Klaviyo properties name."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.destinations.klaviyo.mapping import MetricSubject
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.support.documents import ConversationDocument, TicketDocument
from gateway.store.repositories import D, Repository
from gateway.store.workspace_store import WorkspaceStore


async def subjects_of(
    store: WorkspaceStore,
    documents: Sequence[ConversationDocument | TicketDocument],
    contacts: Mapping[str, ContactDocument],
) -> dict[str, MetricSubject]:
    """The subjects by id, one read per kind of reference. Documents whose contact is not in `contacts` are left out."""
    admins = await _named(store.admins, documents, "assignee_id")
    teams = await _named(store.teams, documents, "team_id")
    types = await _named(store.ticket_types, documents, "type_id")
    return {
        document["_id"]: MetricSubject(
            document,
            contacts[document["contact_id"]],
            admins.get(str(document.get("assignee_id"))),
            teams.get(str(document.get("team_id"))),
            types.get(str(document.get("type_id"))),
        )
        for document in documents
        if document["contact_id"] in contacts
    }


async def _named(repository: Repository[D], documents: Iterable[Mapping[str, object]], field: str) -> dict[str, D]:
    ids = dict.fromkeys(str(document[field]) for document in documents if document.get(field) is not None)
    return await repository.by_ids(list(ids))
