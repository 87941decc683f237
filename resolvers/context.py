"""What a resolver knows of its operation, and how one level of it is read at once."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from strawberry.dataloader import DataLoader

from gateway.bus.bus import Bus, OnCaughtUp
from gateway.core.clock import Clock
from gateway.core.cursors import CursorCipher
from gateway.core.principals import Principal, Scope
from gateway.errors import ForbiddenError, UnauthenticatedError
from gateway.execution.fields import Reads
from gateway.observability import Metrics
from gateway.services.backfills import BackfillService
from gateway.services.contacts.contacts import ContactService
from gateway.services.contacts.erasure import ErasureService
from gateway.services.contacts.merging import MergeService
from gateway.services.contacts.tags import TagService
from gateway.services.cursors import CursorKeys
from gateway.services.deliveries import OutboxDispatcher
from gateway.services.events.tracking import EventService
from gateway.services.klaviyo import KlaviyoService
from gateway.services.messages.rules import MessageService
from gateway.services.outboxes import Outbox
from gateway.services.rate_limits import RateLimits
from gateway.services.replays import ReplayService
from gateway.services.segments import SegmentService
from gateway.services.support.conversations import ConversationService
from gateway.services.support.teammates import TeammateService
from gateway.services.support.ticket_types import TicketTypeService
from gateway.services.support.tickets import TicketService
from gateway.services.syncs import KlaviyoConnections
from gateway.services.timers import TimerService
from gateway.services.tokens import TokenService
from gateway.settings import Settings
from gateway.store.driver import NaiveUtcProjection
from gateway.store.workspace_store import Store, WorkspaceStore

if TYPE_CHECKING:
    from gateway.tracing import Tracing

Source = Mapping[str, object]  # the document or payload whose fields an operation reads
Payload = Mapping[str, object]  # of a mutation
_READERS = frozenset({Scope.READ})


@dataclass(frozen=True, slots=True)
class Services:
    """What the gateway consists of, as resolvers see it."""

    settings: Settings
    clock: Clock
    store: Store
    events: EventService
    contacts: ContactService
    tags: TagService
    merges: MergeService
    erasures: ErasureService
    messages: MessageService
    timers: TimerService
    conversations: ConversationService
    tickets: TicketService
    people: TeammateService
    syncs: KlaviyoConnections
    outbox: Outbox
    deliveries: OutboxDispatcher
    klaviyo: KlaviyoService
    replays: ReplayService
    backfills: BackfillService
    ticket_types: TicketTypeService
    segments: SegmentService
    tokens: TokenService
    cursors: CursorKeys
    bus: Bus
    rate_limits: RateLimits
    metrics: Metrics
    tracing: "Tracing | None" = None


# One result (or exception) per parent, in their order; `arguments` are the field's own.
Batch = Callable[[Sequence[Any], Any, "Context"], Awaitable[Sequence[Any]]]


@dataclass(slots=True)
class Context:
    """One operation: who asks, whether from a page that may, and the loaders that live as long as it does.

    `resting` is told whenever a subscription was given everything up to now."""

    services: Services
    request_id: str
    bearer: Principal | None
    from_page: bool = False
    on_caught_up: OnCaughtUp | None = None
    _reads: Mapping[str, Reads] = field(default_factory=dict)
    _store: WorkspaceStore | None = None
    _loaders: dict[Hashable, DataLoader[object, object]] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        """Who asks; UnauthenticatedError where nobody said."""
        if self.bearer is None:
            raise UnauthenticatedError
        return self.bearer

    @property
    def rights(self) -> tuple[Hashable, ...]:
        """What decides on what is seen: whoever has equal ones sees the same."""
        asker = self.principal
        own = (asker.contact_id, asker.admin_id, asker.merged_ids, asker.anonymous)
        return (asker.workspace_id, asker.scopes, *own)

    @property
    def store(self) -> WorkspaceStore:
        """What the bearer may see: its workspace, or by a contact's token what is that contact's."""
        if self._store is None:
            self._store = self.services.store.open_for(self.principal)
        return self._store

    @property
    def shows_documents(self) -> bool:
        """Whether payloads show documents to the bearer: to a key that may READ, and to a token as far as it sees each."""
        return self.principal.contact_id is not None or self.principal.may(_READERS)

    async def may_read(self) -> bool:
        """Whether the bearer sees anything now: a token made from an anonymous id sees nothing once its contact is a USER."""
        principal = self.principal
        if principal.contact_id is None:
            return principal.may(_READERS)
        return not principal.anonymous or await self.load(_seen_contact, principal.contact_id) is not None

    async def check_may_read(self) -> None:
        """Pass where the bearer sees something now; ForbiddenError."""
        if not await self.may_read():
            raise ForbiddenError(
                "This token was made from an anonymousId, and its contact is a USER now: it may track, and reads nothing. "
                "Ask for a token made from the externalId."
            )

    async def cursor_cipher(self) -> CursorCipher:
        """What encrypts and decrypts the cursors of this deployment."""
        return await self.services.cursors.cipher()

    def set_projection(self, reads: Mapping[str, Reads]) -> None:
        """Be told what of each type's documents the operation reads."""
        self._reads = reads

    def fields_of(self, type_name: str) -> Sequence[str] | None:
        """What must be read of that type's documents, where nobody but the operation looks at them; None: all of it."""
        reads = self._reads.get(type_name)
        if reads is None or reads.keys is None:
            return None
        return NaiveUtcProjection(sorted(reads.keys)) if reads.shown else sorted(reads.keys)

    def forget(self) -> None:
        """Give up the loaders: the next payload of a subscription has its own."""
        self._loaders.clear()

    async def load(self, batch: Batch, parent: object, arguments: object = None) -> object:
        """The batch function's result for this parent; it is called once for all parents of the level with equal arguments."""
        key = (batch, repr(arguments))
        loader = self._loaders.get(key)
        if loader is None:
            loader = self._loaders[key] = DataLoader(load_fn=partial(_call, batch, arguments, self), cache=False)
        return await loader.load(parent)


async def _seen_contact(contact_ids: Sequence[str], _: None, context: Context) -> list[Source | None]:
    """Batch: the bearer's own contact, as far as it may see it."""
    contacts = await context.store.contacts.by_ids(list(dict.fromkeys(contact_ids)))
    return [contacts.get(id_) for id_ in contact_ids]


async def _call(batch: Batch, arguments: object, context: Context, parents: list[object]) -> list[object]:
    return list(await batch(parents, arguments, context))
