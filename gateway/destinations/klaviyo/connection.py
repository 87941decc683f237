"""The connection of a workspace to Klaviyo: its mode, its state, and which events it forwards."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.core.ids import Prefix, derived_id
from gateway.core.leases import is_held
from gateway.destinations.klaviyo.documents import ConnectionDocument
from gateway.settings import KlaviyoMode, Settings

LONGEST_BACK_OFF = timedelta(minutes=1)
FAILURES_ALLOWED = 3  # failed batches in a row, before the connection backs off


class SyncState(StrEnum):
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    BACKING_OFF = "BACKING_OFF"
    OFF = "OFF"


@dataclass(frozen=True, slots=True)
class KlaviyoConnection:
    """The connection of a workspace. Live mode needs `sealed_key` (encrypted, stored) or `key` (from the environment)."""

    workspace_id: str
    mode: KlaviyoMode
    base_url: str
    key: str | None = None
    sealed_key: str | None = None
    forward_all: bool = False
    forwarded: frozenset[str] = frozenset()
    paused_reason: str | None = None
    resumed_at: datetime | None = None
    failures: int = 0
    backing_off_until: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether changes are queued as deliveries."""
        return self.mode is not KlaviyoMode.OFF

    @property
    def is_probing(self) -> bool:
        """Whether one lane at a time is tried, to see if Klaviyo is up again."""
        return self.failures >= FAILURES_ALLOWED

    def is_sending(self, now: datetime) -> bool:
        """Whether deliveries are sent."""
        return self.state(now) is SyncState.RUNNING

    def forwards(self, name: str) -> bool:
        """Whether tracked events of that name are forwarded."""
        return self.forward_all or name in self.forwarded

    def state(self, now: datetime) -> SyncState:
        if not self.is_active:
            return SyncState.OFF
        if self.paused_reason is not None:
            return SyncState.PAUSED
        is_waiting = self.backing_off_until is not None and is_held(self.backing_off_until, now, LONGEST_BACK_OFF)
        return SyncState.BACKING_OFF if is_waiting else SyncState.RUNNING


def connection_id_of(workspace_id: str) -> str:
    return derived_id(Prefix.SYNC, workspace_id)


def metric_id_of(workspace_id: str, name: str) -> str:
    return derived_id(Prefix.METRIC, workspace_id, name)


def connection_of(
    workspace_id: str, stored: ConnectionDocument | None, settings: Settings, *, default: bool
) -> KlaviyoConnection:
    """The connection as stored. Without one, the default workspace uses the environment; others are off."""
    connection = _connection_without_health(workspace_id, stored, settings, default=default)
    if stored is None:
        return connection
    return replace(
        connection,
        paused_reason=stored.get("paused_reason"),
        resumed_at=stored.get("resumed_at"),
        failures=stored.get("failures", 0),
        backing_off_until=stored.get("backing_off_until"),
    )


def _connection_without_health(
    workspace_id: str, stored: ConnectionDocument | None, settings: Settings, *, default: bool
) -> KlaviyoConnection:
    if stored is not None and (stored_mode := stored.get("mode")) is not None:
        return KlaviyoConnection(
            workspace_id,
            KlaviyoMode(stored_mode),
            stored.get("base_url") or settings.klaviyo_base_url,
            sealed_key=stored.get("sealed_key"),
            forward_all=stored.get("forward_all", False),
            forwarded=frozenset(stored.get("forwarded", ())),
        )
    mode = (settings.klaviyo_mode or KlaviyoMode.OFF) if default else KlaviyoMode.OFF
    key = settings.klaviyo_api_key.get_secret_value() if settings.klaviyo_api_key is not None else None
    names = settings.klaviyo_forward_events
    return KlaviyoConnection(
        workspace_id,
        mode,
        settings.klaviyo_base_url,
        key,
        forward_all="*" in names,
        forwarded=frozenset(names),
    )
