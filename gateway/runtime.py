"""What the gateway is made of, opened in order and closed in reverse."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.auth import Authenticator
from gateway.bus.bus import Bus, BusLimits
from gateway.caches import CacheBudget
from gateway.core.clock import Clock, system_clock
from gateway.core.encryption import SecretBox
from gateway.core.ids import Minter
from gateway.core.principals import Principal
from gateway.domain.events.retention import Retention
from gateway.domain.messages.templates import Templates
from gateway.domain.tokens import TokenSigner
from gateway.errors import UnavailableError
from gateway.observability import Metrics
from gateway.services.backfills import BackfillService
from gateway.services.contacts.contacts import ContactService
from gateway.services.contacts.erasure import ErasureService
from gateway.services.contacts.merging import MergeService
from gateway.services.contacts.tags import TagService
from gateway.services.cursors import CursorKeys
from gateway.services.deliveries import OutboxDispatcher
from gateway.services.events.retention import RetentionService
from gateway.services.events.tracking import EventService
from gateway.services.klaviyo import KlaviyoService
from gateway.services.messages.rules import MessageService
from gateway.services.messages.sender import MessageSender
from gateway.services.messages.triggers import TriggerService
from gateway.services.outboxes import Outbox
from gateway.services.projections.event_definitions import EventDefinitionProjection
from gateway.services.projections.monitor import ProjectionMonitor
from gateway.services.projections.segment_memberships import SegmentMembershipProjection
from gateway.services.rate_limit_storages import LocalStorage, SharedStorage
from gateway.services.rate_limits import RateLimits
from gateway.services.replays import ReplayService
from gateway.services.segments import SegmentService
from gateway.services.support.commands import CommandExecutor
from gateway.services.support.conversations import ConversationService
from gateway.services.support.teammates import TeammateService
from gateway.services.support.ticket_types import TicketTypeService
from gateway.services.support.tickets import TicketService
from gateway.services.syncs import KlaviyoConnections
from gateway.services.timers import TimerService
from gateway.services.tokens import TokenService
from gateway.services.workspaces import WorkspaceService
from gateway.settings import RateLimitStore, Settings
from gateway.store.deployment import DeploymentSecrets
from gateway.store.driver import Database
from gateway.store.rate_limits import RateLimitCounters
from gateway.store.servers import open_database, open_tracing
from gateway.store.workspace_store import Store
from gateway.transfer.bulk_upserts import BulkUpserts
from resolvers.context import Services

if TYPE_CHECKING:
    from gateway.tracing import Tracing

Sleep = Callable[[float], Awaitable[None]]
# Of the time that other calls wait for the database: a limit is worth less than the time of those within it.
_RATE_LIMIT_PATIENCE = 0.1
# How many objects more than were let go begin a look for cycles, and how many looks at the newest begin one at older ones.
_THRESHOLDS = (10_000, 10, 10)


@dataclass(frozen=True, slots=True)
class Runtime:
    """An open gateway."""

    database: Database
    services: Services
    workspaces: WorkspaceService
    definitions: EventDefinitionProjection
    retention: RetentionService
    memberships: SegmentMembershipProjection
    contact_batches: BulkUpserts
    projections: ProjectionMonitor
    signer: TokenSigner
    clock: Clock
    caches: CacheBudget

    def authenticator(self, known: Mapping[str, Principal] | None = None) -> Authenticator:
        """Who turns this gateway's credentials into principals; `known` are keys that live in this process alone."""
        return Authenticator(self.services.store, self.clock, self.signer, known, caches=self.caches)


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    uri: str,
    database_name: str,
    *,
    clock: Clock = system_clock,
    minter: Minter | None = None,
    listeners: Sequence[Any] = (),
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[Runtime]:
    """The gateway on that database; `listeners` are pymongo's and see every command; `sleep` waits until other processes
    know what changed."""
    async with (
        open_tracing(settings) as tracing,
        open_database(settings, uri, database_name, tracing, listeners) as database,
    ):
        yield build_services(
            settings, database, database.server_clock.corrected(clock), minter or Minter(), tracing, sleep
        )


@asynccontextmanager
async def background_tasks(runtime: Runtime, *, rolls_up: bool = True, delivers: bool = False) -> AsyncIterator[None]:
    """The bus and (unless other processes do that) the roll-ups, erasures, timers and the sweep of old events of
    that gateway under way, and deliveries where it is a worker, for as long as the context is open."""
    services = runtime.services
    works = [services.bus.run()]
    if rolls_up:
        with suppress(UnavailableError):
            await runtime.database.now()  # from here on a wrong clock of this machine does no harm
        works += [runtime.definitions.run(), runtime.memberships.run(), services.erasures.run(), services.timers.run()]
        works += [runtime.retention.run(), runtime.projections.run()]
    if delivers:
        works += [services.deliveries.run(), services.backfills.run()]
    async with AsyncExitStack() as stack:
        for work in works:
            await stack.enter_async_context(running(work))
        yield


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """That work in the background, for as long as the context is open."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def build_services(
    settings: Settings,
    database: Database,
    clock: Clock,
    minter: Minter,
    tracing: "Tracing | None" = None,
    sleep: Sleep = asyncio.sleep,
) -> Runtime:
    """The services over an open database."""
    caches = CacheBudget(settings.cache_bytes)
    store = Store(database, caches)
    metrics = Metrics()
    limits = BusLimits(settings.stream_ring, settings.stream_queue, settings.checkpoint_seconds)
    signer = TokenSigner(settings.secret_key)
    firings, templates = TriggerService(clock, caches), Templates(caches=caches)
    retention = Retention(settings.event_retention_days)
    syncs = KlaviyoConnections(store, settings, clock, SecretBox(settings.secret_key), caches, sleep)
    outbox = Outbox(syncs, minter)
    klaviyo = KlaviyoService(store, settings, clock, minter, syncs, outbox)
    events = EventService(store, settings, clock, minter, metrics, outbox, firings, caches)
    contacts = ContactService(store, settings, clock, minter, events.turn, outbox)
    people = TeammateService(store, clock, minter)
    acts = CommandExecutor(store, clock, minter, events.turn, outbox)
    conversations = ConversationService(store, settings, clock, minter, acts, people)
    sendings = MessageSender(store, clock, minter, templates, acts)
    tickets = TicketService(store, clock, minter, acts, people)
    services = Services(
        settings=settings,
        clock=clock,
        store=store,
        events=events,
        contacts=contacts,
        messages=MessageService(store, settings, clock, minter, firings, templates, retention),
        tags=TagService(store, clock, minter, events.turn, outbox),
        merges=MergeService(store, settings, clock, minter, events.turn, outbox),
        erasures=ErasureService(store, clock, minter, events.turn, outbox),
        timers=TimerService(store, clock, conversations.handlers | tickets.handlers | sendings.handlers),
        conversations=conversations,
        tickets=tickets,
        people=people,
        ticket_types=TicketTypeService(store, clock, minter),
        syncs=syncs,
        outbox=outbox,
        deliveries=OutboxDispatcher(store, syncs, clock, minter),
        klaviyo=klaviyo,
        replays=ReplayService(store, clock, minter),
        backfills=BackfillService(store, clock, minter, klaviyo, syncs, outbox, caches),
        tokens=TokenService(contacts, people, signer, clock),
        cursors=CursorKeys(settings.secret_key, DeploymentSecrets(database)),
        segments=SegmentService(store, clock, minter, retention),
        bus=Bus(database, clock, minter, limits, metrics),
        rate_limits=_rate_limits(settings, database, clock, metrics, caches),
        metrics=metrics,
        tracing=tracing,
    )
    roll_up = EventDefinitionProjection(store, clock, minter)
    sweep = RetentionService(store, retention, clock)
    batches = BulkUpserts(store, clock, minter, contacts, events, outbox)
    keeper = SegmentMembershipProjection(store, clock, minter, firings)
    workspaces = WorkspaceService(store, clock, minter, sleep)
    projections = ProjectionMonitor(store, services.bus, metrics, settings.projection_stall_seconds)
    return Runtime(database, services, workspaces, roll_up, sweep, keeper, batches, projections, signer, clock, caches)


def _rate_limits(
    settings: Settings, database: Database, clock: Clock, metrics: Metrics, caches: CacheBudget
) -> RateLimits:
    shared = settings.rate_limit_store is RateLimitStore.MONGODB
    counters = RateLimitCounters(database, settings.mongo_timeout_seconds * _RATE_LIMIT_PATIENCE)
    storage = SharedStorage(clock, counters, caches) if shared else LocalStorage(clock, caches)
    return RateLimits(settings, storage, clock, metrics)


def tune_gc() -> None:
    """Have the collector of cycles pass over all that was made until now, for it stays, and look at the rest less often.

    Answers are made of many small objects without cycles, and each look costs as much as there is: bench/ shows the gain."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
