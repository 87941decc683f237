"""How much each caller may ask for in a window of time: requests by number, and the rows that they may show."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from gateway.core.clock import Clock
from gateway.errors import LimitExceededError, RateLimitedError
from gateway.observability import Metrics
from gateway.settings import NO_LIMIT, Settings

_OWN_NETWORK = 64  # bits of an IPv6 address: one caller has all addresses below them
_LONGEST_ADDRESS = 100
REQUESTS, COST, ANONYMOUS = "requests", "cost", "anonymous"


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """A limit of one caller, as it is now."""

    name: str
    limit: int
    remaining: int
    resets_at: datetime


class RateLimits:
    """The limits of this gateway. A window begins with its first request, and at its end all is allowed anew."""

    def __init__(self, settings: Settings, storage: Storage, clock: Clock, metrics: Metrics) -> None:
        self.clock = clock
        self.metrics = metrics
        self.limiter = FixedWindowRateLimiter(storage)
        rates = {REQUESTS: settings.rate_limit, COST: settings.rate_limit_cost}
        self._known = {name: _item(name, rate) for name, rate in rates.items() if rate != NO_LIMIT}
        anonymous = settings.rate_limit_anonymous
        self._anonymous = {} if anonymous == NO_LIMIT else {REQUESTS: _item(ANONYMOUS, anonymous)}

    def of(self, principal_id: str) -> "Allowance":
        """What a known caller may ask for."""
        return Allowance(self, principal_id, self._known)

    def of_address(self, address: str) -> "Allowance":
        """What may come from an address without a valid credential."""
        return Allowance(self, _network(address), self._anonymous)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one caller may ask for."""

    limits: RateLimits
    identity: str
    items: Mapping[str, RateLimitItem]

    async def take_request(self) -> None:
        """Count one request; RateLimitedError where none is left."""
        if REQUESTS in self.items:
            await self._take(self.items[REQUESTS], 1)

    async def give_back_request(self) -> None:
        """Count one request less, as it turned out to be another's."""
        if REQUESTS in self.items:
            item = self.items[REQUESTS]
            await self.limits.limiter.storage.incr(item.key_for(self.identity), item.get_expiry(), -1)

    async def take_cost(self, rows: int) -> None:
        """Count the rows of an operation; RateLimitedError where fewer are left, and then none is taken."""
        if rows and COST in self.items:
            item = self.items[COST]
            if rows > item.amount:
                raise LimitExceededError(
                    f"The operation may show {rows} rows, and {item} are allowed: ask for smaller pages ('first')."
                )
            await self._take(item, rows)

    async def states(self) -> list[RateLimitState]:
        """Each limit as it is now."""
        return [await self._state(item) for item in self.items.values()]

    async def _take(self, item: RateLimitItem, amount: int) -> None:
        limiter = self.limits.limiter
        if await limiter.test(item, self.identity, cost=amount):
            if await limiter.hit(item, self.identity, cost=amount):
                return
            # Another process took what was left: give back what is not had.
            await limiter.storage.incr(item.key_for(self.identity), item.get_expiry(), -amount)
        self.limits.metrics.rate_limited.labels(item.namespace).inc()
        seconds = seconds_until((await self._state(item)).resets_at, self.limits.clock())
        raise RateLimitedError(
            f"The rate limit '{item.namespace}' is used up ({item}): try again in {seconds} seconds.", max(1, seconds)
        )

    async def _state(self, item: RateLimitItem) -> RateLimitState:
        ends_at, remaining = await self.limits.limiter.get_window_stats(item, self.identity)
        return RateLimitState(item.namespace, item.amount, remaining, datetime.fromtimestamp(ends_at, UTC))


def seconds_until(moment: datetime, now: datetime) -> int:
    """Whole seconds until then, rounded up."""
    return max(0, math.ceil((moment - now).total_seconds()))


def _network(address: str) -> str:
    """The address; of IPv6 the network that one caller has whole, which holds more addresses than can be counted."""
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:
        return address[:_LONGEST_ADDRESS]
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, _OWN_NETWORK), strict=False))
    return str(found)


def _item(name: str, rate: str) -> RateLimitItem:
    item = parse(rate)
    return type(item)(item.amount, item.multiples, name)
