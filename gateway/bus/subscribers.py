"""Subscribers of the bus, indexed by the contacts that they follow."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from gateway.bus.change_events import BusEvent, Position
from gateway.errors import GatewayError

Predicate = Callable[[BusEvent], bool]


@dataclass(slots=True, eq=False)
class Subscriber:
    """A bounded queue of bus events for one subscription, or for several equal ones. It ends with `failure`.

    `contact_ids`: it receives only events that name one of these; `predicate` may add ids. `owner`: the bus limits
    count per owner; empty: the subscriber counts alone. `cursor`: the position it continues after while it catches
    up."""

    workspace_id: str
    predicate: Predicate
    limit: int
    owner: str = ""
    contact_ids: set[str] | None = None
    queue: deque[BusEvent] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failure: GatewayError | None = None
    cursor: Position | None = None
    empty_turns: int = 0
    read_count: int = 0
    full_since: float | None = None
    pause: float = 0.0
    timer: asyncio.TimerHandle | None = None
    listeners: int = 1
    is_waiting: bool = False
    is_over: bool = False

    def offer(self, event: BusEvent) -> bool:
        """Queue an event if it matches; False if it matches and the queue is full."""
        if self.failure is None and event.workspace_id == self.workspace_id and self.predicate(event):
            if len(self.queue) >= self.limit:
                return False
            self.queue.append(event)
            self.ready.set()
        return True

    def fail(self, error: GatewayError) -> None:
        self.failure = error
        self.queue.clear()
        self.ready.set()

    @property
    def turn_key(self) -> Hashable:
        """What shares catch-up turns: all subscribers of an owner, or this one alone."""
        return self.owner or self

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    @property
    def caught_up(self) -> bool:
        """Whether its reader waits for the next event, and none is queued or missing."""
        return self.is_waiting and not self.queue and self.cursor is None and self.failure is None and not self.is_over

    def join(self, other: "Subscriber") -> None:
        """End here and move the listeners to an equal subscriber. Both must be caught up, so at the same position."""
        other.listeners += self.listeners
        self.listeners = 0
        self.is_over = True
        self.ready.set()


class Subscribers:
    """A set of subscribers, indexed by contact, so that an event is offered to few."""

    def __init__(self) -> None:
        self._keys: dict[Subscriber, set[tuple[str, str]]] = {}
        self._by_key: dict[tuple[str, str], set[Subscriber]] = defaultdict(set)

    def add(self, subscriber: Subscriber) -> None:
        """Add it under every contact that it follows now; adding it again updates the index."""
        ids = {""} if subscriber.contact_ids is None else subscriber.contact_ids
        keys = {(subscriber.workspace_id, id_) for id_ in ids}
        self._keys[subscriber] = keys
        for key in keys:
            self._by_key[key].add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        for key in self._keys.pop(subscriber, ()):
            self._by_key[key].discard(subscriber)
            if not self._by_key[key]:
                del self._by_key[key]

    def offer(self, event: BusEvent) -> list[Subscriber]:
        """Offer an event to the subscribers that may match; returns those that match and are full."""
        keys = ((event.workspace_id, id_) for id_ in ("", *event.contact_ids))
        groups = [self._by_key[key] for key in keys if key in self._by_key]
        candidates = groups[0] if len(groups) == 1 else set().union(*groups)
        full = [subscriber for subscriber in candidates if not subscriber.offer(event)]
        for subscriber in [*candidates] if event.is_merge else ():
            self.add(subscriber)  # it follows the survivor, too
        return full

    def __iter__(self) -> Iterator[Subscriber]:
        return iter([*self._keys])

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, subscriber: object) -> bool:
        return subscriber in self._keys
