"""Builds the gateway's services over an open database, and runs its background tasks."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.auth import Authenticator
from gateway.bus.bus import Bus, BusLimits
from gateway.caches import CacheBudget
from gateway.collections import DESTINATION_REPOSITORIES
from gateway.core.clock import Clock, system_clock
from gateway.core.ids import Minter
from gateway.core.principals import Principal
from gateway.destinations.klaviyo.klaviyo import Klaviyo, build_klaviyo
from gateway.domain.events.retention import Retention
from gateway.domain.messages.templates import Templates
from gateway.domain.tokens import TokenSigner
from gateway.errors import UnavailableError
from gateway.observability import Metrics
from gateway.outbox.destinations import AnyDestination
from gateway.outbox.dispatcher import OutboxDispatcher
from gateway.outbox.outbox import Outbox
from gateway.services.contacts.contacts import ContactService
from gateway.services.contacts.erasure import ErasureService
from gateway.services.contacts.merging import MergeService
from gateway.services.contacts.tags import TagService
from gateway.services.contacts.writer import ContactWriter
from gateway.services.cursors import CursorKeys
from gateway.services.events.retention import RetentionService
from gateway.services.events.tracking import EventService
from gateway.services.messages.rules import MessageService
from gateway.services.messages.sender import MessageSender
from gateway.services.messages.triggers import TriggerService
from gateway.services.projections.event_definitions import EventDefinitionProjection
from gateway.services.projections.monitor import ProjectionMonitor
from gateway.services.projections.segment_memberships import SegmentMembershipProjection
from gateway.services.rate_limit_storages import LocalStorage, SharedStorage
from gateway.services.rate_limits import RateLimits
from gateway.services.segments import SegmentService
from gateway.services.support.commands import CommandExecutor
from gateway.services.support.conversations import ConversationService
from gateway.services.support.teammates import TeammateService
from gateway.services.support.ticket_types import TicketTypeService
from gateway.services.support.tickets import TicketService
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
from resolvers.klaviyo import nodes as klaviyo_nodes

if TYPE_CHECKING:
    from gateway.tracing import Tracing

Sleep = Callable[[float], Awaitable[None]]
# The share of the database timeout that a rate limit may wait: a limit must not delay the callers within it.
_RATE_LIMIT_PATIENCE = 0.1
# Arguments of gc.set_threshold.
_THRESHOLDS = (10_000, 10, 10)


@dataclass(frozen=True, slots=True)
class Runtime:
    database: Database
    services: Services
    workspaces: WorkspaceService
    definitions: EventDefinitionProjection
    retention: RetentionService
    memberships: SegmentMembershipProjection
    contact_batches: BulkUpserts
    projections: ProjectionMonitor
    outbox: Outbox
    deliveries: OutboxDispatcher
    klaviyo: Klaviyo
    signer: TokenSigner
    clock: Clock
    caches: CacheBudget

    def authenticator(self, local_keys: Mapping[str, Principal] | None = None) -> Authenticator:
        """Return the authenticator; `local_keys`: principals by keys that exist in this process alone."""
        return Authenticator(self.services.store, self.clock, self.signer, local_keys, caches=self.caches)


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
    destinations: Sequence[AnyDestination] = (),
) -> AsyncIterator[Runtime]:
    """Open the gateway on a database.

    `listeners`: pymongo's command listeners. `sleep`: waits until other processes have seen a change; tests replace it.
    `destinations`: further ones."""
    repositories = [*DESTINATION_REPOSITORIES, *(kind for one in destinations for kind in (one.deliveries, one.lanes))]
    async with (
        open_tracing(settings) as tracing,
        open_database(settings, uri, database_name, tracing, listeners, repositories) as database,
    ):
        corrected = database.server_clock.corrected(clock)
        yield build_services(settings, database, corrected, minter or Minter(), tracing, sleep, destinations)


@asynccontextmanager
async def background_tasks(runtime: Runtime, *, rolls_up: bool = True, delivers: bool = False) -> AsyncIterator[None]:
    """Run the bus, and by option the other background tasks, while the context is open.

    `rolls_up`: projections, erasures, timers and retention. `delivers`: the outbox dispatcher and backfills."""
    services = runtime.services
    jobs = [services.bus.run()]
    if rolls_up:
        with suppress(UnavailableError):
            await runtime.database.now()  # measures the offset of this machine's clock
        jobs += [runtime.definitions.run(), runtime.memberships.run(), services.erasures.run(), services.timers.run()]
        jobs += [runtime.retention.run(), runtime.projections.run()]
    if delivers:
        jobs += [runtime.deliveries.run(), runtime.klaviyo.backfill_runner.run()]
    async with AsyncExitStack() as stack:
        for job in jobs:
            await stack.enter_async_context(running(job))
        yield


@asynccontextmanager
async def running(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine in the background while the context is open; cancels and awaits it at the end."""
    task = asyncio.create_task(job)
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
    more_destinations: Sequence[AnyDestination] = (),
) -> Runtime:
    caches = CacheBudget(settings.cache_bytes)
    store = Store(database, caches)
    metrics = Metrics()
    limits = BusLimits(settings.stream_ring, settings.stream_queue, settings.checkpoint_seconds)
    signer = TokenSigner(settings.secret_key)
    triggers, templates = TriggerService(clock, caches), Templates(caches=caches)
    retention = Retention(settings.event_retention_days)
    klaviyo = build_klaviyo(store, settings, clock, minter, caches, sleep)
    destinations = (klaviyo.destination, *more_destinations)
    outbox = Outbox(destinations, minter)
    writer = ContactWriter(minter, outbox)
    events = EventService(store, settings, clock, minter, metrics, writer, triggers, caches)
    contacts = ContactService(store, settings, clock, minter, events.turn, writer)
    teammates = TeammateService(store, clock, minter)
    commands = CommandExecutor(store, clock, minter, events.turn, writer)
    conversations = ConversationService(store, settings, clock, minter, commands, teammates)
    sender = MessageSender(store, clock, minter, templates, commands)
    tickets = TicketService(store, clock, minter, commands, teammates)
    services = Services(
        settings=settings,
        clock=clock,
        store=store,
        events=events,
        contacts=contacts,
        messages=MessageService(store, settings, clock, minter, triggers, templates, retention),
        tags=TagService(store, clock, events.turn, writer),
        merges=MergeService(store, settings, clock, minter, events.turn, writer),
        erasures=ErasureService(store, clock, minter, events.turn, outbox),
        timers=TimerService(store, clock, conversations.handlers | tickets.handlers | sender.handlers),
        conversations=conversations,
        tickets=tickets,
        teammates=teammates,
        ticket_types=TicketTypeService(store, clock, minter),
        destinations={Klaviyo: klaviyo},
        node_readers=(klaviyo_nodes,),
        tokens=TokenService(contacts, teammates, signer, clock),
        cursors=CursorKeys(settings.secret_key, DeploymentSecrets(database)),
        segments=SegmentService(store, clock, minter, retention),
        bus=Bus(database, clock, minter, limits, metrics),
        rate_limits=_rate_limits(settings, database, clock, metrics, caches),
        metrics=metrics,
        tracing=tracing,
    )
    definitions = EventDefinitionProjection(store, clock, minter)
    retention_service = RetentionService(store, retention, clock)
    batches = BulkUpserts(store, clock, minter, contacts, events, writer)
    memberships = SegmentMembershipProjection(store, clock, minter, triggers)
    workspaces = WorkspaceService(store, clock, minter, sleep)
    projections = ProjectionMonitor(store, services.bus, metrics, settings.projection_stall_seconds)
    return Runtime(
        database,
        services,
        workspaces,
        definitions,
        retention_service,
        memberships,
        batches,
        projections,
        outbox,
        OutboxDispatcher(store, destinations, clock, minter),
        klaviyo,
        signer,
        clock,
        caches,
    )


def _rate_limits(
    settings: Settings, database: Database, clock: Clock, metrics: Metrics, caches: CacheBudget
) -> RateLimits:
    shared = settings.rate_limit_store is RateLimitStore.MONGODB
    counters = RateLimitCounters(database, settings.mongo_timeout_seconds * _RATE_LIMIT_PATIENCE)
    storage = SharedStorage(clock, counters, caches) if shared else LocalStorage(clock, caches)
    return RateLimits(settings, storage, clock, metrics)


def tune_gc() -> None:
    """Exclude all current objects from garbage collection, and collect less often.

    Responses consist of many small objects without cycles, so collections cost much and free little; see bench/."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
