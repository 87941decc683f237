"""Bus events, their cursors, and the ring that keeps the newest of them in memory."""

import base64
import binascii
import struct
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from gateway.core.cursors import Bound, CursorCipher, InvalidCursorError, UnknownKeyError
from gateway.domain.change_kinds import MERGES, ChangeKind, kind_of
from gateway.errors import BadRequestError, CursorExpiredError
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Insert, Position
from gateway.store.events.events import Events

__all__ = ["BusEvent", "Position", "Ring", "bus_event_of", "cursor_to", "kind_of_insert", "position_of"]

_SCOPE: Bound = [b"change stream"]
_TIME = struct.Struct(">II")


@dataclass(frozen=True, slots=True, eq=False)
class BusEvent:
    """One inserted document of a watched collection."""

    kind: ChangeKind | None  # None: a change that this version does not know
    document: dict[str, Any]
    position: Position

    @property
    def workspace_id(self) -> str:
        """The workspace that owns the document; empty for a heartbeat."""
        return str(self.document.get("workspace_id", ""))

    @property
    def contact_ids(self) -> tuple[str, ...]:
        """The contacts that it names: at most two, the second one merged into the first."""
        ids = (self.document.get("contact_id"), self.document.get("merged_id"))
        return tuple(id_ for id_ in ids if isinstance(id_, str))

    @property
    def is_merge(self) -> bool:
        """Whether subscribers of the merged contact must follow the survivor, too."""
        return self.kind in MERGES


def bus_event_of(insert: Insert) -> BusEvent:
    """The bus event of an insert."""
    position = Position(str(insert.document["_id"]), insert.token, insert.at)
    return BusEvent(kind_of_insert(insert), insert.document, position)


def kind_of_insert(insert: Insert) -> ChangeKind | None:
    """The kind of an inserted event or change event; None of other documents, and of changes that are unknown."""
    if insert.collection == Events.COLLECTION:
        return ChangeKind.EVENT_TRACKED
    return kind_of(insert.document) if insert.collection == ChangeLog.COLLECTION else None


def cursor_to(position: Position, cipher: CursorCipher) -> str:
    """The cursor of a position: at most 100 characters."""
    return cipher.encrypt(_TIME.pack(*position.at) + position.id.encode(), _SCOPE)


def position_of(cursor: str, cipher: CursorCipher) -> Position:
    """Decrypt a cursor. BadRequestError: it is no cursor of a stream. CursorExpiredError: its key is no longer in use,
    or it is from a version that did not encrypt cursors."""
    try:
        raw = cipher.decrypt(cursor, _SCOPE)
    except InvalidCursorError as error:
        if isinstance(error, UnknownKeyError) or _is_unencrypted(cursor):
            raise CursorExpiredError from None
        raise BadRequestError(
            "'after' is not a cursor of a subscription: pass one that a payload or streamCursor gave."
        ) from None
    return Position(raw[_TIME.size :].decode(), None, _TIME.unpack_from(raw))


def _is_unencrypted(cursor: str) -> bool:
    """Whether it has the old form of a cursor: an id, a resume token and a time as JSON."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        match orjson.loads(raw):
            case [str(), str(), int(), int()]:
                return True
    except (binascii.Error, ValueError):
        pass
    return False


class Ring:
    """The newest events, in order. Short interruptions are served from it."""

    def __init__(self, size: int) -> None:
        self._events: deque[BusEvent] = deque()
        self._numbers: dict[str, int] = {}
        self._by_contact: dict[str, deque[tuple[int, BusEvent]]] = defaultdict(deque)
        self._size = size
        self._first = 0

    def add(self, event: BusEvent) -> None:
        """Append an event; the oldest one is dropped when the ring is full."""
        number = self._first + len(self._events)
        self._numbers[event.position.id] = number
        self._events.append(event)
        for id_ in set(event.contact_ids):
            self._by_contact[id_].append((number, event))
        if len(self._events) > self._size:
            self._remove_oldest()

    def clear(self) -> None:
        """Drop all events: the stream broke, and what comes next does not follow them."""
        self._events.clear()
        self._numbers.clear()
        self._by_contact.clear()

    @property
    def last(self) -> BusEvent | None:
        """The newest event."""
        return self._events[-1] if self._events else None

    def __contains__(self, id_: str) -> bool:
        return id_ in self._numbers

    def after(self, id_: str, contact_ids: set[str] | None = None) -> Iterator[BusEvent]:
        """The events after that one, which must be in the ring. `contact_ids` may grow while this runs."""
        number = self._numbers[id_]
        if contact_ids is None:
            yield from islice(self._events, number - self._first + 1, None)
            return
        followed_count = -1
        while followed_count != len(contact_ids):
            followed_count = len(contact_ids)
            for event_number, event in self._rows_of(contact_ids, number):
                number = event_number
                yield event
                if len(contact_ids) != followed_count:
                    break

    def first_after(self, at: tuple[int, int]) -> BusEvent | None:
        """The oldest event younger than that cluster time."""
        index = bisect_right(self._events, at, key=lambda event: event.position.at)
        return self._events[index] if index < len(self._events) else None

    def _rows_of(self, contact_ids: set[str], after: int) -> list[tuple[int, BusEvent]]:
        """The events of these contacts after that number, in order."""
        rows = {number: event for id_ in contact_ids for number, event in self._by_contact.get(id_, ())}
        return sorted(row for row in rows.items() if row[0] > after)

    def _remove_oldest(self) -> None:
        event = self._events.popleft()
        self._first += 1
        del self._numbers[event.position.id]
        for id_ in set(event.contact_ids):
            self._by_contact[id_].popleft()
            if not self._by_contact[id_]:
                del self._by_contact[id_]
