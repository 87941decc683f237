"""Subscribers of the bus, and which of them a notice may concern."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from gateway.bus.change_events import BusEvent, Position
from gateway.errors import GatewayError

Predicate = Callable[[BusEvent], bool]


@dataclass(slots=True, eq=False)
class Subscriber:
    """A bounded queue of what one subscription asked for, or several that ask alike. It ends with `failure`.

    `contact_ids`: it wants nothing but what names one of these contacts; `wanted` may add to them. `owner`: whose
    share of the bus it uses; empty: a share of its own.
    `cursor`: after which notice it goes on, as long as it catches up."""

    workspace_id: str
    predicate: Predicate
    limit: int
    owner: str = ""
    contact_ids: set[str] | None = None
    queue: deque[BusEvent] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failure: GatewayError | None = None
    cursor: Position | None = None
    barren_turns: int = 0
    taken: int = 0
    full_since: float | None = None
    pause: float = 0.0
    timer: asyncio.TimerHandle | None = None
    listeners: int = 1
    is_waiting: bool = False
    is_over: bool = False

    def offer(self, notice: BusEvent) -> bool:
        """Queue a notice if it is wanted; False where it is and the queue is full."""
        if self.failure is None and notice.workspace_id == self.workspace_id and self.predicate(notice):
            if len(self.queue) >= self.limit:
                return False
            self.queue.append(notice)
            self.ready.set()
        return True

    def fail(self, error: GatewayError) -> None:
        """End the subscription."""
        self.failure = error
        self.queue.clear()
        self.ready.set()

    @property
    def turn_key(self) -> Hashable:
        """Who shares turns with it: all of its owner, or itself alone."""
        return self.owner or self

    def stop_timer(self) -> None:
        """Wait for nothing any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    @property
    def caught_up(self) -> bool:
        """Whether it was given everything up to now, and nothing of that is under way."""
        return self.is_waiting and not self.queue and self.cursor is None and self.failure is None and not self.is_over

    def join(self, other: "Subscriber") -> None:
        """End here, as its listeners go on with another that wants the same: both are at rest, so at one place."""
        other.listeners += self.listeners
        self.listeners = 0
        self.is_over = True
        self.ready.set()


class Subscribers:
    """A set of subscribers, indexed by the contacts that they follow: a notice is offered to few of many."""

    def __init__(self) -> None:
        self._keys: dict[Subscriber, set[tuple[str, str]]] = {}
        self._by_key: dict[tuple[str, str], set[Subscriber]] = defaultdict(set)

    def add(self, subscriber: Subscriber) -> None:
        """Add it, under every contact that it follows now."""
        ids = {""} if subscriber.contact_ids is None else subscriber.contact_ids
        keys = {(subscriber.workspace_id, id_) for id_ in ids}
        self._keys[subscriber] = keys
        for key in keys:
            self._by_key[key].add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Remove it, if it is there."""
        for key in self._keys.pop(subscriber, ()):
            self._by_key[key].discard(subscriber)
            if not self._by_key[key]:
                del self._by_key[key]

    def offer(self, notice: BusEvent) -> list[Subscriber]:
        """Offer a notice to those whom it may concern; those who want it and are full."""
        keys = ((notice.workspace_id, id_) for id_ in ("", *notice.contact_ids))
        groups = [self._by_key[key] for key in keys if key in self._by_key]
        concerned = groups[0] if len(groups) == 1 else set().union(*groups)
        full = [subscriber for subscriber in concerned if not subscriber.offer(notice)]
        for subscriber in [*concerned] if notice.is_merge else ():
            self.add(subscriber)  # it follows the contact that took over, too
        return full

    def __iter__(self) -> Iterator[Subscriber]:
        return iter([*self._keys])

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, subscriber: object) -> bool:
        return subscriber in self._keys
