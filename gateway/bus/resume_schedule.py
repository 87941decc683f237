"""Subscribers that wait for the catch-up stream, and the order of their turns."""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable

from gateway.bus.change_events import Position
from gateway.bus.subscribers import Subscriber

_FIRST_TURN, _LONGEST_TURN = 100, 5_000
_PERIOD_BITS = 6


class ResumeQueue:
    """Waiting subscribers, by cursor. Every second turn goes to the minute with the most owners (as after a restart),
    the others to the subscriber that waits longest. An owner counts once. Its first turns are short, so that long
    catch-ups delay few."""

    def __init__(self) -> None:
        self._waiting: dict[Subscriber, Position] = {}  # in order of arrival
        self._by_id: dict[str, set[Subscriber]] = defaultdict(set)
        self._turns: Counter[Hashable] = Counter()
        self._busiest_next = False

    def add(self, subscriber: Subscriber) -> None:
        assert subscriber.cursor is not None  # noqa: S101 - a waiting subscriber has one
        self._waiting[subscriber] = subscriber.cursor
        self._by_id[subscriber.cursor.id].add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        if (cursor := self._waiting.pop(subscriber, None)) is not None:
            self._by_id[cursor.id].discard(subscriber)
            if not self._by_id[cursor.id]:
                del self._by_id[cursor.id]

    def take(self, id_: str) -> list[Subscriber]:
        return self._remove_all(self._by_id.get(id_, ()))

    def begin_turn(self) -> tuple[Position, int, list[Subscriber]]:
        """The start of the next turn, how many events it may read while others wait, and the subscribers that start
        there."""
        self._busiest_next = not self._busiest_next
        first = self._oldest_of_busiest() if self._busiest_next else next(iter(self._waiting))
        start = self._waiting[first]
        length = min(_LONGEST_TURN, _FIRST_TURN << min(self._turns[first.turn_key], 10))
        # Cursors with the same id can still differ in their time.
        return (
            start,
            length,
            self._remove_all([subscriber for subscriber in self._by_id[start.id] if subscriber.cursor == start]),
        )

    def count_turn(self, keys: Collection[Hashable]) -> None:
        self._turns.update(keys)

    def forget(self, key: Hashable) -> None:
        self._turns.pop(key, None)

    def _oldest_of_busiest(self) -> Subscriber:
        """The oldest of the period with most owners; periods that gave no event last time come last."""
        owners: dict[tuple[int, int], set[Hashable]] = defaultdict(set)
        for subscriber, cursor in self._waiting.items():
            owners[_period(subscriber, cursor)].add(subscriber.turn_key)

        def order(period: tuple[int, int]) -> tuple[int, int, int]:
            return period[0], -len(owners[period]), min(self._turns[key] for key in owners[period])

        busiest = min(owners, key=order)
        subscribers = [
            subscriber for subscriber, cursor in self._waiting.items() if _period(subscriber, cursor) == busiest
        ]
        return min(subscribers, key=lambda subscriber: self._waiting[subscriber].at)

    def _remove_all(self, subscribers: Collection[Subscriber]) -> list[Subscriber]:
        removed = [*subscribers]
        for subscriber in removed:
            self.discard(subscriber)
        return removed

    def __len__(self) -> int:
        return len(self._waiting)


def _period(subscriber: Subscriber, cursor: Position) -> tuple[int, int]:
    return subscriber.empty_turns, cursor.at[0] >> _PERIOD_BITS
