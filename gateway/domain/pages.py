"""Relay connections by keyset: what a page asks for, where its cursors lead, what it shows."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import BadRequestError

Row = dict[str, Any]
DEFAULT_SIZE = 20
LARGEST_SIZE = 100
_SEAL_BYTES = 8


@dataclass(frozen=True, slots=True)
class PageArguments:
    """The four arguments of every connection, as the caller gave them."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


class Scope:
    """A list, its parent and its filter, as cursors are sealed with them; written once somebody asks for a cursor."""

    __slots__ = ("_key", "_named")

    def __init__(self, *named: object) -> None:
        self._named = named
        self._key: bytes | None = None

    @property
    def key(self) -> bytes:
        """What tells it from every other one."""
        if self._key is None:
            text = json.dumps(self._named, default=str, sort_keys=True)
            self._key = hashlib.blake2b(text.encode()).digest()
        return self._key


_NOWHERE = Scope()


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was asked for: `size` rows, the last ones if `backward`, between two positions (both exclusive)."""

    size: int
    backward: bool
    after: str | None
    before: str | None
    scope: Scope = _NOWHERE

    @property
    def limit(self) -> int:
        """How many rows to read: one more than is shown tells whether there are more."""
        return self.size + 1


def page(arguments: PageArguments, *scope: object) -> Page:
    """The page meant; `scope` names the list, its parent and its filter, and a cursor of any other scope is refused."""
    size, of_list = _size(arguments), Scope(*scope)
    return Page(
        size=size,
        backward=arguments.last is not None,
        after=_position(arguments.after, "after", of_list),
        before=_position(arguments.before, "before", of_list),
        scope=of_list,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows of a page, from which its cursors are made where somebody asks for them."""

    rows: Sequence[Row]
    asked: Page
    position: Callable[[Row], str]
    more: bool
    reached: str | None

    def cursor(self, row: Row) -> str:
        """The cursor that leads to a row."""
        return cursor(self.position(row), self.asked.scope)


def connection(rows: Sequence[Row], asked: Page, position: Callable[[Row], str], reached: str | None = None) -> Row:
    """The connection of rows that were read in the page's own direction, up to one more than its size.

    `reached`: where the reading ended before the page was full; its cursor goes on from there."""
    shown = list(rows[: asked.size])
    if asked.backward:
        shown.reverse()
    more = len(rows) > asked.size or reached is not None
    return {"nodes": shown, "rows": shown, "shown": Shown(shown, asked, position, more, reached)}


def edges(found: Row) -> list[Row]:
    """The edges of a connection, whose `nodes` stand for its `rows`."""
    shown: Shown = found["shown"]
    return [
        {"cursor": shown.cursor(row), "node": node} for row, node in zip(found["rows"], found["nodes"], strict=True)
    ]


def page_info(found: Row) -> Row:
    """Where the page of a connection lies in its list."""
    shown: Shown = found["shown"]
    asked = shown.asked
    start, end = (shown.cursor(shown.rows[0]), shown.cursor(shown.rows[-1])) if shown.rows else (None, None)
    if shown.reached is not None:
        stopped = cursor(shown.reached, asked.scope)
        start, end = (stopped, end or stopped) if asked.backward else (start or stopped, stopped)
    return {
        "has_next_page": asked.before is not None if asked.backward else shown.more,
        "has_previous_page": shown.more if asked.backward else asked.after is not None,
        "start_cursor": start,
        "end_cursor": end,
    }


def cursor(position: str, scope: Scope) -> str:
    """An opaque cursor to that position of that scope."""
    text = position.encode()
    return base64.urlsafe_b64encode(_seal(text, scope) + text).decode().rstrip("=")


def _position(text: str | None, argument: str, scope: Scope) -> str | None:
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = raw[_SEAL_BYTES:].decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise BadRequestError(f"'{argument}' is not a cursor: pass one that this list gave.") from None
    if cursor(found, scope) != text:
        raise BadRequestError(
            f"'{argument}' is a cursor of another list, parent or filter: pass one that this very list gave."
        )
    return found


def _seal(text: bytes, scope: Scope) -> bytes:
    return hashlib.blake2b(text, digest_size=_SEAL_BYTES, key=scope.key).digest()


def _size(arguments: PageArguments) -> int:
    if arguments.first is not None and arguments.last is not None:
        raise BadRequestError("'first' and 'last' exclude each other: give one of them.")
    for name, value in (("first", arguments.first), ("last", arguments.last)):
        if value is not None and not 1 <= value <= LARGEST_SIZE:
            raise BadRequestError(f"'{name}' must be from 1 to {LARGEST_SIZE}, not {value}.")
    return arguments.first or arguments.last or DEFAULT_SIZE
