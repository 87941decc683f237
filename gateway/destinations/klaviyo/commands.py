"""Commands on the synchronization with Klaviyo, as callers send them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ConnectKlaviyo:
    api_key: str
    base_url: str | None = None
    forward_events: list[str] | None = None
    forward_all_events: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBackfill:
    """Send history of a time range: of all metrics if none are named, and profiles unless `include_profiles` is False."""

    since: datetime | None = None
    until: datetime | None = None
    metrics: list[str] | None = None
    include_profiles: bool | None = None
    idempotency_key: str | None = None
