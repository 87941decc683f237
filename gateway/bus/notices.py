"""What the bus carries, the cursors that lead to it, and the stretch of it that is kept in memory."""

import base64
import binascii
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from gateway.domain.cursors import Bound, CursorCipher, InvalidCursorError, UnknownKeyError
from gateway.errors import BadRequestError, CursorExpiredError
from gateway.store.driver import Insert, Position

__all__ = ["Notice", "Position", "Ring", "cursor_to", "notice_of", "position_of"]

_SCOPE: Bound = [b"change stream"]
_TIME = struct.Struct(">II")


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """One inserted document of a watched collection."""

    collection: str
    document: dict[str, Any]
    position: Position

    @property
    def workspace_id(self) -> str:
        """Whose it is; empty for a mark of the bus itself."""
        return str(self.document["workspace_id"])


def notice_of(insert: Insert) -> Notice:
    """What the bus carries of an insert."""
    return Notice(insert.collection, insert.document, Position(str(insert.document["_id"]), insert.token, insert.at))


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
        self._notices: deque[Notice] = deque()
        self._numbers: dict[str, int] = {}
        self._size = size
        self._first = 0

    def add(self, notice: Notice) -> None:
        """Put a notice at the end; the oldest goes."""
        self._numbers[notice.position.id] = self._first + len(self._notices)
        self._notices.append(notice)
        if len(self._notices) > self._size:
            del self._numbers[self._notices.popleft().position.id]
            self._first += 1

    def clear(self) -> None:
        """Forget all: the stream was broken, and what comes next does not follow."""
        self._notices.clear()
        self._numbers.clear()

    @property
    def last(self) -> Notice | None:
        """The newest notice."""
        return self._notices[-1] if self._notices else None

    def __contains__(self, id_: str) -> bool:
        return id_ in self._numbers

    def after(self, id_: str) -> Iterator[Notice]:
        """What came after that notice, which is in the ring."""
        return islice(self._notices, self._numbers[id_] - self._first + 1, None)
