"""Klaviyo as a whole: its destination, and the services over it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.caches import CacheBudget
from gateway.core.clock import Clock
from gateway.core.encryption import SecretBox
from gateway.core.ids import Minter
from gateway.destinations.klaviyo.backfill_runner import BackfillRunner
from gateway.destinations.klaviyo.backfills import BackfillService
from gateway.destinations.klaviyo.connections import KlaviyoConnections
from gateway.destinations.klaviyo.destination import KlaviyoDestination
from gateway.destinations.klaviyo.service import KlaviyoService
from gateway.outbox.enqueuer import Enqueuer
from gateway.outbox.replays import ReplayService
from gateway.settings import Settings
from gateway.store.workspace_store import Store


@dataclass(frozen=True, slots=True)
class Klaviyo:
    connections: KlaviyoConnections
    destination: KlaviyoDestination
    service: KlaviyoService
    backfills: BackfillService
    backfill_runner: BackfillRunner
    replays: ReplayService


def build_klaviyo(
    store: Store,
    settings: Settings,
    clock: Clock,
    minter: Minter,
    caches: CacheBudget,
    sleep: Callable[[float], Awaitable[None]],
) -> Klaviyo:
    """Build the destination and the services. `sleep`: waits until other processes have seen a change."""
    connections = KlaviyoConnections(store, settings, clock, SecretBox(settings.secret_key), caches, sleep)
    destination = KlaviyoDestination(connections, clock, minter)
    enqueuer = Enqueuer(destination, minter)
    service = KlaviyoService(store, settings, clock, connections, enqueuer)
    return Klaviyo(
        connections=connections,
        destination=destination,
        service=service,
        backfills=BackfillService(store, clock, minter, service),
        backfill_runner=BackfillRunner(store, clock, minter, connections, enqueuer, caches),
        replays=ReplayService(store, destination, clock, minter),
    )
