"""What a resolver knows of its operation, and the loaders that read one level at once."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from strawberry.dataloader import DataLoader

from gateway.bus.bus import Bus, OnCaughtUp
from gateway.core.clock import Clock
from gateway.core.cursors import CursorCipher
from gateway.core.principals import Principal, Scope
from gateway.errors import ForbiddenError, UnauthenticatedError
from gateway.execution.fields import Reads
from gateway.observability import Metrics
from gateway.services.contacts.contacts import ContactService
from gateway.services.contacts.erasure import ErasureService
from gateway.services.contacts.merging import MergeService
from gateway.services.contacts.tags import TagService
from gateway.services.cursors import CursorKeys
from gateway.services.events.tracking import EventService
from gateway.services.messages.rules import MessageService
from gateway.services.rate_limits import RateLimits
from gateway.services.segments import SegmentService
from gateway.services.support.conversations import ConversationService
from gateway.services.support.teammates import TeammateService
from gateway.services.support.ticket_types import TicketTypeService
from gateway.services.support.tickets import TicketService
from gateway.services.timers import TimerService
from gateway.services.tokens import TokenService
from gateway.settings import Settings
from gateway.store.driver import NaiveUtcProjection
from gateway.store.workspace_store import Store, WorkspaceStore

if TYPE_CHECKING:
    from gateway.tracing import Tracing

Source = Mapping[str, object]  # the document or payload whose fields an operation reads
Payload = Mapping[str, object]  # of a mutation
T = TypeVar("T")
_READERS = frozenset({Scope.READ})


@dataclass(frozen=True, slots=True)
class Services:
    """The services of the gateway, as resolvers use them."""

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
    teammates: TeammateService
    ticket_types: TicketTypeService
    segments: SegmentService
    tokens: TokenService
    cursors: CursorKeys
    bus: Bus
    rate_limits: RateLimits
    metrics: Metrics
    destinations: Mapping[type[Any], Any] = field(default_factory=dict)
    node_readers: "Sequence[NodeReader]" = ()
    tracing: "Tracing | None" = None

    def destination(self, kind: type[T]) -> T:
        """What the gateway does with one destination, by its class."""
        found: T = self.destinations[kind]
        return found


# Returns the nodes that a destination has, by id.
NodeReader = Callable[["Context", Sequence[str]], Awaitable[Mapping[str, Source]]]
# Returns one result (or exception) per parent, in their order. `arguments` are those of the field.
Batch = Callable[[Sequence[Any], Any, "Context"], Awaitable[Sequence[Any]]]


@dataclass(slots=True)
class Context:
    """One operation: its principal, whether it comes from an allowed page, and its loaders.

    `on_caught_up` is called when a subscription has received everything up to now.
    """

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
        """Raises UnauthenticatedError without a credential."""
        if self.bearer is None:
            raise UnauthenticatedError
        return self.bearer

    @property
    def rights(self) -> tuple[Hashable, ...]:
        """What decides what a caller may see: principals with equal rights see the same."""
        principal = self.principal
        own = (principal.contact_id, principal.admin_id, principal.merged_ids, principal.anonymous)
        return (principal.workspace_id, principal.scopes, *own)

    @property
    def store(self) -> WorkspaceStore:
        """The documents that the principal may see: its workspace, or those of a contact token's contact."""
        if self._store is None:
            self._store = self.services.store.open_for(self.principal)
        return self._store

    @property
    def shows_documents(self) -> bool:
        """Whether payloads have documents: for a key with READ, and for a token as far as it may see each."""
        return self.principal.contact_id is not None or self.principal.may(_READERS)

    async def may_read(self) -> bool:
        """A token made from an anonymous id reads nothing once its contact is a USER."""
        principal = self.principal
        if principal.contact_id is None:
            return principal.may(_READERS)
        return not principal.anonymous or await self.load(_seen_contact, principal.contact_id) is not None

    async def check_may_read(self) -> None:
        if not await self.may_read():
            raise ForbiddenError(
                "This token was made from an anonymousId, and its contact is now a USER: it may track events but read nothing. "
                "Create a token from the externalId."
            )

    async def cursor_cipher(self) -> CursorCipher:
        return await self.services.cursors.cipher()

    def set_projection(self, reads: Mapping[str, Reads]) -> None:
        """Set what the operation reads of each type's documents."""
        self._reads = reads

    def fields_of(self, type_name: str) -> Sequence[str] | None:
        """The keys to read of a type's documents. None: all keys, since resolvers use them whole."""
        reads = self._reads.get(type_name)
        if reads is None or reads.keys is None:
            return None
        return NaiveUtcProjection(sorted(reads.keys)) if reads.shown else sorted(reads.keys)

    def forget(self) -> None:
        """Drop the loaders: each payload of a subscription has its own."""
        self._loaders.clear()

    async def load(self, batch: Batch, parent: object, arguments: object = None) -> object:
        """The result of the batch function for this parent. Parents of a level with equal arguments share one call."""
        key = (batch, repr(arguments))
        loader = self._loaders.get(key)
        if loader is None:
            loader = self._loaders[key] = DataLoader(load_fn=partial(_call, batch, arguments, self), cache=False)
        return await loader.load(parent)


async def _seen_contact(contact_ids: Sequence[str], _: None, context: Context) -> list[Source | None]:
    contacts = await context.store.contacts.by_ids(list(dict.fromkeys(contact_ids)))
    return [contacts.get(id_) for id_ in contact_ids]


async def _call(batch: Batch, arguments: object, context: Context, parents: list[object]) -> list[object]:
    return list(await batch(parents, arguments, context))
