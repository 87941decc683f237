"""Relay connections by keyset: what a page asks for, where its cursors lead, what it shows."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.cursors import Bound, CursorCipher, InvalidCursorError
from gateway.errors import BadRequestError

Row = dict[str, Any]
DEFAULT_SIZE = 20
LARGEST_SIZE = 100
_SCOPE_BYTES = 16


@dataclass(frozen=True, slots=True)
class PageArguments:
    """The four arguments of every connection, as the caller gave them."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


class CursorScope:
    """A list, its parent and its filter, to which cursors are bound; digested once somebody asks for a cursor."""

    __slots__ = ("_cipher", "_digest", "_named")

    def __init__(self, cipher: CursorCipher, *named: object) -> None:
        self._cipher = cipher
        self._named = named
        self._digest: Bound | None = None

    def cursor(self, position: str) -> str:
        """The cursor that leads to that position."""
        return self._cipher.encrypt(position.encode(), self._digest or self._digested())

    def position(self, cursor: str) -> str:
        """The position that a cursor of this scope leads to; InvalidCursorError."""
        return self._cipher.decrypt(cursor, self._digest or self._digested()).decode()

    def _digested(self) -> Bound:
        text = json.dumps(self._named, default=str, sort_keys=True)
        self._digest = [hashlib.blake2b(text.encode(), digest_size=_SCOPE_BYTES).digest()]
        return self._digest


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was asked for: `size` rows, the last ones if `backward`, between two positions (both exclusive)."""

    size: int
    backward: bool
    after: str | None
    before: str | None
    scope: CursorScope | None = None

    @property
    def limit(self) -> int:
        """How many rows to read: one more than is shown tells whether there are more."""
        return self.size + 1


def page(arguments: PageArguments, cipher: CursorCipher, *scope: object) -> Page:
    """The page meant; `scope` names the list, its parent and its filter, and a cursor of any other scope is refused."""
    size, of_list = page_size(arguments), CursorScope(cipher, *scope)
    return Page(
        size=size,
        backward=arguments.last is not None,
        after=_position(arguments.after, "after", of_list),
        before=_position(arguments.before, "before", of_list),
        scope=of_list,
    )


@dataclass(frozen=True, slots=True)
class PageResult:
    """The rows of a page, from which its cursors are made where somebody asks for them."""

    rows: Sequence[Row]
    page: Page
    position: Callable[[Row], str]
    has_more: bool
    stopped_at: str | None

    def cursor(self, row: Row) -> str:
        """The cursor that leads to a row."""
        return self.cursor_to(self.position(row))

    def cursor_to(self, position: str) -> str:
        """The cursor that leads to a position of this list."""
        assert self.page.scope is not None, "this page has no cursors"  # noqa: S101 - pages of callers have a scope
        return self.page.scope.cursor(position)


def connection(rows: Sequence[Row], asked: Page, position: Callable[[Row], str], reached: str | None = None) -> Row:
    """The connection of rows that were read in the page's own direction, up to one more than its size.

    `reached`: where the reading ended before the page was full; its cursor goes on from there."""
    shown = list(rows[: asked.size])
    if asked.backward:
        shown.reverse()
    more = len(rows) > asked.size or reached is not None
    return {"nodes": shown, "rows": shown, "shown": PageResult(shown, asked, position, more, reached)}


def edges(found: Row) -> list[Row]:
    """The edges of a connection, whose `nodes` stand for its `rows`."""
    shown: PageResult = found["shown"]
    return [
        {"cursor": shown.cursor(row), "node": node} for row, node in zip(found["rows"], found["nodes"], strict=True)
    ]


def page_info(found: Row) -> Row:
    """Where the page of a connection lies in its list."""
    shown: PageResult = found["shown"]
    asked = shown.page
    start, end = (shown.cursor(shown.rows[0]), shown.cursor(shown.rows[-1])) if shown.rows else (None, None)
    if shown.stopped_at is not None:
        stopped = shown.cursor_to(shown.stopped_at)
        start, end = (stopped, end or stopped) if asked.backward else (start or stopped, stopped)
    return {
        "has_next_page": asked.before is not None if asked.backward else shown.has_more,
        "has_previous_page": shown.has_more if asked.backward else asked.after is not None,
        "start_cursor": start,
        "end_cursor": end,
    }


def _position(text: str | None, argument: str, scope: CursorScope) -> str | None:
    if text is None:
        return None
    try:
        return scope.position(text)
    except InvalidCursorError:
        raise BadRequestError(
            f"'{argument}' is not a cursor of this list, parent and filter, or older than the gateway's secret: "
            "pass one that this very list gave, or leave it out."
        ) from None


def page_size(arguments: PageArguments) -> int:
    """How many rows a page shows; BadRequestError."""
    if arguments.first is not None and arguments.last is not None:
        raise BadRequestError("'first' and 'last' exclude each other: give one of them.")
    for name, value in (("first", arguments.first), ("last", arguments.last)):
        if value is not None and not 1 <= value <= LARGEST_SIZE:
            raise BadRequestError(f"'{name}' must be from 1 to {LARGEST_SIZE}, not {value}.")
    return arguments.first or arguments.last or DEFAULT_SIZE
