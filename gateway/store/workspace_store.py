"""The store: every repository, opened for one workspace at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from gateway.caches import Cache, CacheBudget
from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import ContactRef, identity
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.support.threads import ThreadKind
from gateway.store.change_log import ChangeLog
from gateway.store.contacts.contacts import Contacts
from gateway.store.contacts.erasure import Deletions, Erasures, Salts
from gateway.store.driver import Database
from gateway.store.events.definitions import EventDefinitions, EventValues
from gateway.store.events.events import Events, EventSummaries
from gateway.store.events.tombstones import Tombstones
from gateway.store.filters.segments import SegmentMembers, SegmentReviews, Segments
from gateway.store.idempotency_keys import IdempotencyKeys
from gateway.store.messages import Campaigns, MessageRules, RuleStates, SentCounts
from gateway.store.projection_offsets import ProjectionOffsets
from gateway.store.repositories import Repository
from gateway.store.support.conversations import ConversationParts, Conversations
from gateway.store.support.teammates import Admins, Teams
from gateway.store.support.threads import Parts, Threads
from gateway.store.support.ticket_types import TicketTypes
from gateway.store.support.tickets import TicketNumbers, TicketParts, Tickets
from gateway.store.timers import Timers
from gateway.store.workspaces import Keys, Workspaces

REPOSITORIES: tuple[type[Repository[Any]], ...] = (
    Contacts,
    Events,
    Tombstones,
    EventSummaries,
    EventDefinitions,
    EventValues,
    ChangeLog,
    IdempotencyKeys,
    Erasures,
    Deletions,
    Timers,
    MessageRules,
    RuleStates,
    SentCounts,
    Campaigns,
    Admins,
    Teams,
    Conversations,
    ConversationParts,
    TicketTypes,
    Tickets,
    TicketParts,
    TicketNumbers,
    Segments,
    SegmentMembers,
    SegmentReviews,
)

R = TypeVar("R", bound=Repository[Any])
_CACHED_WORKSPACES = 1000
_STORE_BYTES = 6000


class WorkspaceStore:
    """Every repository of one workspace; for a contact token, limited to that contact's rows."""

    def __init__(self, database: Database, workspace_id: str, salts: Salts, token: Principal | None = None) -> None:
        self.workspace_id = workspace_id
        self.database = database
        self._token = token
        self.contacts = Contacts(database, workspace_id, token)
        self.events = Events(database, workspace_id, token)
        self.tombstones = Tombstones(database, workspace_id, token)
        self.summaries = EventSummaries(database, workspace_id, token)
        self.definitions = EventDefinitions(database, workspace_id, token)
        self.values = EventValues(database, workspace_id, token)
        self.changes = ChangeLog(database, workspace_id, token)
        self.idempotency_keys = IdempotencyKeys(database, workspace_id, token)
        self.erasures = Erasures(database, workspace_id, salts, token)
        self.deletions = Deletions(database, workspace_id, token)
        self.timers = Timers(database, workspace_id, token)
        self.message_rules = MessageRules(database, workspace_id, token)
        self.rule_states = RuleStates(database, workspace_id, token)
        self.sent_counts = SentCounts(database, workspace_id, token)
        self.campaigns = Campaigns(database, workspace_id, token)
        self.admins = Admins(database, workspace_id, token)
        self.teams = Teams(database, workspace_id, token)
        self.conversations = Conversations(database, workspace_id, token)
        self.conversation_parts = ConversationParts(database, workspace_id, token)
        self.tickets = Tickets(database, workspace_id, token)
        self.ticket_parts = TicketParts(database, workspace_id, token)
        self.ticket_numbers = TicketNumbers(database, workspace_id, token)
        self.ticket_types = TicketTypes(database, workspace_id, token)
        self.segments = Segments(database, workspace_id, token)
        self.members = SegmentMembers(database, workspace_id, token)
        self.reviews = SegmentReviews(database, workspace_id, token)

    def repository(self, kind: type[R]) -> R:
        """A repository that a layer above the store declares, with the same limits."""
        return kind(self.database, self.workspace_id, self._token)

    @property
    def histories(self) -> dict[ThreadKind, tuple[Threads[Any], Parts]]:
        """By kind of thread: the repositories of the threads and of their parts."""
        return {
            ThreadKind.CONVERSATION: (self.conversations, self.conversation_parts),
            ThreadKind.TICKET: (self.tickets, self.ticket_parts),
        }

    def threads(self, subject: ThreadKind) -> tuple[Threads[Any], Parts]:
        """The repositories of threads of that kind and of their parts."""
        return self.histories[subject]

    async def candidates_for(
        self, refs: Sequence[ContactRef], now: datetime, *, may_become_users: bool = False
    ) -> tuple[list[ContactDocument], frozenset[str]]:
        """Every contact that these references can resolve to, and those of their identities that no contact has because
        it was erased. Contacts are read first, so an erasure meanwhile shows in one of the two."""
        contacts = await self.contacts.candidates_for(refs, may_become_users=may_become_users)
        taken = {text for row in contacts for text in row["identities"]}
        requested = {identity(kind, value) for ref in refs for kind, value in ref.keys()}  # noqa: SIM118 - not a mapping
        return contacts, await self.erasures.among(sorted(requested - taken), now)


class Store:
    def __init__(self, database: Database, caches: CacheBudget | None = None) -> None:
        self.database = database
        caches = caches or CacheBudget()
        self.workspaces = Workspaces(database)
        self.keys = Keys(database)
        self.roll_ups = ProjectionOffsets(database)
        self._salts = Salts(self.workspaces, caches)
        self._opened: Cache[str, WorkspaceStore] = Cache(caches, lambda *_: _STORE_BYTES, _CACHED_WORKSPACES)

    def open(self, workspace_id: str) -> WorkspaceStore:
        store = self._opened.get(workspace_id)
        if store is None:
            store = WorkspaceStore(self.database, workspace_id, self._salts)
            self._opened.put(workspace_id, store)
        return store

    def open_for(self, reader: Principal) -> WorkspaceStore:
        """The repositories that the reader may use: of its workspace, and for a token its contact's rows only."""
        if reader.contact_id is None:
            return self.open(reader.workspace_id)
        return WorkspaceStore(self.database, reader.workspace_id, self._salts, reader)

    async def empty_workspace(self, workspace_id: str) -> int:
        """Delete everything in a workspace, keys first; returns the number of documents."""
        repositories = (*REPOSITORIES, *self.database.repositories)
        collections = (Keys.COLLECTION, *(repository.COLLECTION for repository in repositories))
        return sum(
            [await self.database.delete(collection, {"workspace_id": workspace_id}) for collection in collections]
        )
