"""What the bus carries, the cursors that lead to it, and the stretch of it that is kept in memory."""

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
from gateway.errors import BadRequestError, CursorExpiredError
from gateway.store.driver import Insert, Position

__all__ = ["BusEvent", "Position", "Ring", "bus_event_of", "cursor_to", "position_of"]

_SCOPE: Bound = [b"change stream"]
_TIME = struct.Struct(">II")


@dataclass(frozen=True, slots=True, eq=False)
class BusEvent:
    """One inserted document of a watched collection."""

    collection: str
    document: dict[str, Any]
    position: Position

    @property
    def workspace_id(self) -> str:
        """Whose it is; empty for a mark of the bus itself."""
        return str(self.document["workspace_id"])

    @property
    def contact_ids(self) -> tuple[str, ...]:
        """The contacts that it names: at most two, of which the second was taken over by the first."""
        named = (self.document.get("contact_id"), self.document.get("merged_id"))
        return tuple(id_ for id_ in named if isinstance(id_, str))

    @property
    def is_merge(self) -> bool:
        """Whether who follows a contact follows another one, too, from here on."""
        return "merged_id" in self.document


def bus_event_of(insert: Insert) -> BusEvent:
    """What the bus carries of an insert."""
    return BusEvent(insert.collection, insert.document, Position(str(insert.document["_id"]), insert.token, insert.at))


def cursor_to(position: Position, cipher: CursorCipher) -> str:
    """The cursor that leads to a position: at most 100 characters."""
    return cipher.encrypt(_TIME.pack(*position.at) + position.id.encode(), _SCOPE)


def position_of(cursor: str, cipher: CursorCipher) -> Position:
    """The position that a cursor leads to. BadRequestError where it is no cursor of a stream; CursorExpiredError where it
    was encrypted with a key that is no longer in use, or not at all."""
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
    """Whether it is a cursor as it was before cursors were encrypted: an id, a resume token and a time as JSON."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        match orjson.loads(raw):
            case [str(), str(), int(), int()]:
                return True
    except (binascii.Error, ValueError):
        pass
    return False


class Ring:
    """The newest notices, in order: what a subscriber that was away for a moment is served from."""

    def __init__(self, size: int) -> None:
        self._notices: deque[BusEvent] = deque()
        self._numbers: dict[str, int] = {}
        self._by_contact: dict[str, deque[tuple[int, BusEvent]]] = defaultdict(deque)
        self._size = size
        self._first = 0

    def add(self, notice: BusEvent) -> None:
        """Put a notice at the end; the oldest goes."""
        number = self._first + len(self._notices)
        self._numbers[notice.position.id] = number
        self._notices.append(notice)
        for id_ in set(notice.contact_ids):
            self._by_contact[id_].append((number, notice))
        if len(self._notices) > self._size:
            self._remove_oldest()

    def clear(self) -> None:
        """Forget all: the stream was broken, and what comes next does not follow."""
        self._notices.clear()
        self._numbers.clear()
        self._by_contact.clear()

    @property
    def last(self) -> BusEvent | None:
        """The newest notice."""
        return self._notices[-1] if self._notices else None

    def __contains__(self, id_: str) -> bool:
        return id_ in self._numbers

    def after(self, id_: str, contact_ids: set[str] | None = None) -> Iterator[BusEvent]:
        """What came after that notice, which is in the ring; of these contacts alone, to which the caller may add meanwhile."""
        number = self._numbers[id_]
        if contact_ids is None:
            yield from islice(self._notices, number - self._first + 1, None)
            return
        followed = -1
        while followed != len(contact_ids):
            followed = len(contact_ids)
            for place, notice in self._rows_of(contact_ids, number):
                number = place
                yield notice
                if len(contact_ids) != followed:
                    break

    def first_after(self, at: tuple[int, int]) -> BusEvent | None:
        """The oldest notice that is younger than that time of the cluster."""
        place = bisect_right(self._notices, at, key=lambda notice: notice.position.at)
        return self._notices[place] if place < len(self._notices) else None

    def _rows_of(self, contact_ids: set[str], after: int) -> list[tuple[int, BusEvent]]:
        """What is there of these contacts behind that number, in order."""
        rows = {number: notice for id_ in contact_ids for number, notice in self._by_contact.get(id_, ())}
        return sorted(row for row in rows.items() if row[0] > after)

    def _remove_oldest(self) -> None:
        notice = self._notices.popleft()
        self._first += 1
        del self._numbers[notice.position.id]
        for id_ in set(notice.contact_ids):
            self._by_contact[id_].popleft()
            if not self._by_contact[id_]:
                del self._by_contact[id_]
