"""Subscribers that wait for the stream of the past, and whose turn it is."""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable

from gateway.bus.change_events import Position
from gateway.bus.subscribers import Subscriber

_FIRST_TURN, _LONGEST_TURN = 100, 5_000
_PERIOD_BITS = 6


class Returning:
    """Those who wait, by their cursors. A turn goes to the minute of the past in which most owners are, as after a restart;
    every second one to who waits longest. An owner counts once, whatever the number of its subscribers, and its turns are
    short at first: what takes long holds up little."""

    def __init__(self) -> None:
        self._waiting: dict[Subscriber, Position] = {}  # in the order of their coming
        self._by_id: dict[str, set[Subscriber]] = defaultdict(set)
        self._turns: Counter[Hashable] = Counter()
        self._busiest_next = False

    def add(self, subscriber: Subscriber) -> None:
        """Let a subscriber wait, whose cursor it keeps."""
        assert subscriber.cursor is not None  # noqa: S101 - who returns has one
        self._waiting[subscriber] = subscriber.cursor
        self._by_id[subscriber.cursor.id].add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Let it wait no longer, if it does."""
        if (cursor := self._waiting.pop(subscriber, None)) is not None:
            self._by_id[cursor.id].discard(subscriber)
            if not self._by_id[cursor.id]:
                del self._by_id[cursor.id]

    def take(self, id_: str) -> list[Subscriber]:
        """Those whose cursors name that notice; they wait no longer."""
        return self._taken(self._by_id.get(id_, ()))

    def begin_turn(self) -> tuple[Position, int, list[Subscriber]]:
        """Where the next turn begins, how many notices it may last while others wait, and who is there."""
        self._busiest_next = not self._busiest_next
        first = self._oldest_of_busiest() if self._busiest_next else next(iter(self._waiting))
        start = self._waiting[first]
        length = min(_LONGEST_TURN, _FIRST_TURN << min(self._turns[first.turn_key], 10))
        # A cursor is more than an id: who has the same id beside another token may be somewhere else.
        return start, length, self._taken([one for one in self._by_id[start.id] if one.cursor == start])

    def count_turn(self, keys: Collection[Hashable]) -> None:
        """Remember that these had a turn."""
        self._turns.update(keys)

    def forget(self, key: Hashable) -> None:
        """Nobody of that owner catches up any more."""
        self._turns.pop(key, None)

    def _oldest_of_busiest(self) -> Subscriber:
        """The first of the period with most owners, those who led nowhere last; the others of it are met on the way."""
        owners: dict[tuple[int, int], set[Hashable]] = defaultdict(set)
        for subscriber, cursor in self._waiting.items():
            owners[_period(subscriber, cursor)].add(subscriber.turn_key)

        def order(period: tuple[int, int]) -> tuple[int, int, int]:
            return period[0], -len(owners[period]), min(self._turns[key] for key in owners[period])

        busiest = min(owners, key=order)
        inside = [one for one, cursor in self._waiting.items() if _period(one, cursor) == busiest]
        return min(inside, key=lambda subscriber: self._waiting[subscriber].at)

    def _taken(self, subscribers: Collection[Subscriber]) -> list[Subscriber]:
        taken = [*subscribers]
        for subscriber in taken:
            self.discard(subscriber)
        return taken

    def __len__(self) -> int:
        return len(self._waiting)


def _period(subscriber: Subscriber, cursor: Position) -> tuple[int, int]:
    return subscriber.barren_turns, cursor.at[0] >> _PERIOD_BITS
