"""Rate limits per caller and window: the number of requests, and their cost in rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, parse
from limits.aio.strategies import FixedWindowRateLimiter

from gateway.core.clock import Clock
from gateway.errors import LimitExceededError, RateLimitedError
from gateway.observability import Metrics
from gateway.services.rate_limit_storages import LocalStorage
from gateway.settings import NO_LIMIT, Settings

_OWN_NETWORK = 64  # IPv6 prefix length: a caller usually has the whole network
_LONGEST_ADDRESS = 100
REQUESTS, COST, ANONYMOUS = "requests", "cost", "anonymous"


@dataclass(frozen=True, slots=True)
class RateLimitState:
    name: str
    limit: int
    remaining: int
    resets_at: datetime


class RateLimits:
    """The configured limits. A window starts with its first request."""

    def __init__(self, settings: Settings, storage: LocalStorage, clock: Clock, metrics: Metrics) -> None:
        self.clock = clock
        self.metrics = metrics
        self.storage = storage
        self.limiter = FixedWindowRateLimiter(storage)
        rates = {REQUESTS: settings.rate_limit, COST: settings.rate_limit_cost}
        self._authenticated = {name: _item(name, rate) for name, rate in rates.items() if rate != NO_LIMIT}
        anonymous = settings.rate_limit_anonymous
        self._anonymous = {} if anonymous == NO_LIMIT else {REQUESTS: _item(ANONYMOUS, anonymous)}

    def of(self, principal_id: str) -> "Allowance":
        return Allowance(self, principal_id, self._authenticated)

    def of_address(self, address: str) -> "Allowance":
        return Allowance(self, _network(address), self._anonymous)


@dataclass(frozen=True, slots=True)
class Allowance:
    limits: RateLimits
    identity: str
    items: Mapping[str, RateLimitItem]

    async def take_request(self) -> None:
        if REQUESTS in self.items:
            await self._take(self.items[REQUESTS], 1)

    async def give_back_request(self) -> None:
        """Undo `take_request`: the request turned out to be another caller's."""
        if REQUESTS in self.items:
            item = self.items[REQUESTS]
            await self.limits.storage.incr(item.key_for(self.identity), item.get_expiry(), -1)

    async def take_cost(self, rows: int) -> None:
        """Count the rows of an operation; RateLimitedError, with none counted, if fewer are left."""
        if rows and COST in self.items:
            item = self.items[COST]
            if rows > item.amount:
                raise LimitExceededError(
                    f"The operation may return {rows} rows; the limit is {item}: request smaller pages ('first')."
                )
            await self._take(item, rows)

    def states(self) -> list[RateLimitState]:
        return [self._state(item) for item in self.items.values()]

    async def _take(self, item: RateLimitItem, amount: int) -> None:
        limiter = self.limits.limiter
        if await limiter.test(item, self.identity, cost=amount):
            if await limiter.hit(item, self.identity, cost=amount):
                return
            # Another process used the rest in between: undo the hit.
            await self.limits.storage.incr(item.key_for(self.identity), item.get_expiry(), -amount)
        self.limits.metrics.rate_limited.labels(item.namespace).inc()
        seconds = seconds_until(self._state(item).resets_at, self.limits.clock())
        raise RateLimitedError(
            f"The rate limit '{item.namespace}' is used up ({item}): try again in {seconds} seconds.", max(1, seconds)
        )

    def _state(self, item: RateLimitItem) -> RateLimitState:
        count, ends_at = self.limits.storage.state(item.key_for(self.identity))
        remaining = max(0, item.amount - count)
        return RateLimitState(item.namespace, item.amount, remaining, datetime.fromtimestamp(ends_at, UTC))


def seconds_until(moment: datetime, now: datetime) -> int:
    """Whole seconds until then, rounded up; 0 for the past."""
    return max(0, math.ceil((moment - now).total_seconds()))


def _network(address: str) -> str:
    """The address. For IPv6 its network: one caller has more addresses than can be counted."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:_LONGEST_ADDRESS]
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, _OWN_NETWORK), strict=False))
    return str(parsed)


def _item(name: str, rate: str) -> RateLimitItem:
    item = parse(rate)
    return type(item)(item.amount, item.multiples, name)
