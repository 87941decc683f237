"""The connection of a workspace to Klaviyo: its mode, its state, and which events it forwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.ids import Prefix, derived_id
from gateway.core.leases import is_held
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
    workspace_id: str, stored: Mapping[str, Any] | None, settings: Settings, *, default: bool
) -> KlaviyoConnection:
    """The connection as stored. Without one, the default workspace uses the environment; others are off."""
    row = stored or {}
    health: dict[str, Any] = {name: row.get(name) for name in ("paused_reason", "resumed_at", "backing_off_until")}
    health["failures"] = row.get("failures", 0)
    if row.get("mode") is not None:
        return KlaviyoConnection(
            workspace_id,
            KlaviyoMode(row["mode"]),
            row.get("base_url") or settings.klaviyo_base_url,
            sealed_key=row.get("sealed_key"),
            forward_all=row.get("forward_all", False),
            forwarded=frozenset(row.get("forwarded", ())),
            **health,
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
        **health,
    )
