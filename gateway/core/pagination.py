"""Relay connections by keyset: page arguments, cursors, edges and pageInfo."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NotRequired, TypedDict, TypeVar

from gateway.core.cursors import Bound, CursorCipher, InvalidCursorError
from gateway.errors import BadRequestError

R = TypeVar("R", bound=Mapping[str, object])  # the type of the rows
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
    """Binds cursors to a list, its parent and its filter; hashed on first use."""

    __slots__ = ("_cipher", "_digest", "_parts")

    def __init__(self, cipher: CursorCipher, *parts: object) -> None:
        self._cipher = cipher
        self._parts = parts
        self._digest: Bound | None = None

    def cursor(self, position: str) -> str:
        return self._cipher.encrypt(position.encode(), self._digest or self._digested())

    def position(self, cursor: str) -> str:
        """The position of a cursor of this scope. Raises InvalidCursorError."""
        return self._cipher.decrypt(cursor, self._digest or self._digested()).decode()

    def _digested(self) -> Bound:
        text = json.dumps(self._parts, default=str, sort_keys=True)
        self._digest = [hashlib.blake2b(text.encode(), digest_size=_SCOPE_BYTES).digest()]
        return self._digest


@dataclass(frozen=True, slots=True)
class Page:
    """The requested page: `size` rows between two exclusive positions, the last ones if `backward`."""

    size: int
    backward: bool
    after: str | None
    before: str | None
    scope: CursorScope | None = None

    @property
    def limit(self) -> int:
        """How many rows to read: one extra shows whether there are more."""
        return self.size + 1


def page(arguments: PageArguments, cipher: CursorCipher, *scope: object) -> Page:
    """The requested page. `scope` names the list, its parent and its filter, and binds the cursors."""
    size, cursor_scope = page_size(arguments), CursorScope(cipher, *scope)
    return Page(
        size=size,
        backward=arguments.last is not None,
        after=_position(arguments.after, "after", cursor_scope),
        before=_position(arguments.before, "before", cursor_scope),
        scope=cursor_scope,
    )


@dataclass(frozen=True, slots=True)
class PageResult(Generic[R]):
    """The rows of a page; cursors are computed on demand."""

    rows: Sequence[R]
    page: Page
    position: Callable[[R], str]
    has_more: bool
    stopped_at: str | None

    def cursor(self, row: R) -> str:
        return self.cursor_to(self.position(row))

    def cursor_to(self, position: str) -> str:
        assert self.page.scope is not None, "this page has no cursors"  # noqa: S101 - pages of callers have a scope
        return self.page.scope.cursor(position)


class Connection(TypedDict, Generic[R]):
    nodes: Sequence[object]
    rows: Sequence[R]
    shown: PageResult[R]
    counter: NotRequired[Callable[[int], Awaitable[int | None]]]


class Edge(TypedDict):
    cursor: str
    node: object


class PageInfo(TypedDict):
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


def connection(
    rows: Sequence[R], page: Page, position: Callable[[R], str], reached: str | None = None
) -> Connection[R]:
    """Build a connection from up to `page.limit` rows in reading order. `reached`: where a bounded scan stopped early."""
    shown = list(rows[: page.size])
    if page.backward:
        shown.reverse()
    more = len(rows) > page.size or reached is not None
    return {"nodes": shown, "rows": shown, "shown": PageResult(shown, page, position, more, reached)}


def edges(connection_: Connection[R]) -> list[Edge]:
    """The edges of a connection. `nodes` correspond to `rows`, one for one."""
    result = connection_["shown"]
    return [
        {"cursor": result.cursor(row), "node": node}
        for row, node in zip(connection_["rows"], connection_["nodes"], strict=True)
    ]


def page_info(connection_: Connection[R]) -> PageInfo:
    result = connection_["shown"]
    page = result.page
    start, end = (result.cursor(result.rows[0]), result.cursor(result.rows[-1])) if result.rows else (None, None)
    if result.stopped_at is not None:
        stopped = result.cursor_to(result.stopped_at)
        start, end = (stopped, end or stopped) if page.backward else (start or stopped, stopped)
    return {
        "has_next_page": page.before is not None if page.backward else result.has_more,
        "has_previous_page": result.has_more if page.backward else page.after is not None,
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
            f"'{argument}' is not a cursor of this list, parent and filter, or the gateway's secret has changed: "
            "pass a cursor of this list, or leave it out."
        ) from None


def page_size(arguments: PageArguments) -> int:
    """The requested number of rows. Raises BadRequestError."""
    if arguments.first is not None and arguments.last is not None:
        raise BadRequestError("'first' and 'last' cannot be combined: give one of them.")
    for name, value in (("first", arguments.first), ("last", arguments.last)):
        if value is not None and not 1 <= value <= LARGEST_SIZE:
            raise BadRequestError(f"'{name}' must be from 1 to {LARGEST_SIZE}, not {value}.")
    return arguments.first or arguments.last or DEFAULT_SIZE
