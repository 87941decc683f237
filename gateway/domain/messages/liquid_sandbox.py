"""The Liquid sandbox of message templates: few tags and filters, and limits on size, loops and time."""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from liquid import BoundTemplate, Environment, RenderContext
from liquid.exceptions import LiquidError
from liquid.token import TOKEN_CONTENT, TOKEN_ILLEGAL, TOKEN_OUTPUT

from gateway.core.typed_values import parse_rfc3339

MAX_TEXT_BYTES = 30_000
_MAX_LOOPS = 1000
_MAX_LOCALS_BYTES = 100_000
_MAX_LIST = 1000
_MAX_BITS = 128
SECONDS = 0.25
_TAGS = frozenset({"if", "unless", "case", "for", "break", "continue", "assign", "capture", "comment"})
_FILTERS = frozenset(
    {
        *("abs", "at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "round", "times"),
        *("append", "capitalize", "downcase", "lstrip", "prepend", "remove", "remove_first", "replace", "rstrip"),
        *("replace_first", "slice", "split", "squish", "strip", "truncate", "truncatewords", "upcase", "url_encode"),
        *("first", "join", "last", "map", "reverse", "size", "sort", "sum", "uniq", "where", "default"),
    }
)


class _Output(StringIO):
    def __init__(self, context: "_Context | None", room: int) -> None:
        super().__init__()
        self.room = room
        self._context = context

    def write(self, text: str) -> int:
        self.room -= len(text.encode("utf-8", "surrogatepass"))
        if self.room < 0:
            raise LiquidError(f"its output has more than {MAX_TEXT_BYTES} bytes", token=None)
        if self._context is not None:
            self._context.check_time()
        return super().write(text)


class _Context(RenderContext):
    """A rendering: it sees only its own data, and stops when its time is up."""

    def __init__(self, template: BoundTemplate, **options: Any) -> None:
        super().__init__(template, **options)
        self.scope = type(self.scope)(self.locals, self.globals)  # neither the machine's clock nor counters
        self._loops = 0
        self._ends = time.thread_time() + self.env.seconds  # type: ignore[attr-defined]

    def check_time(self) -> None:
        if time.thread_time() > self._ends:
            raise LiquidError("it takes too long", token=None)

    def get(self, path: list[object], **options: Any) -> object:
        self.check_time()
        return super().get(path, **options)

    def filter(self, name: str, token: Any) -> Callable[..., object]:
        self.check_time()
        return super().filter(name, token)

    def assign(self, key: str, val: object) -> None:
        self.check_time()
        super().assign(key, val)

    @contextmanager
    def loop(self, namespace: Mapping[str, object], forloop: Any) -> Iterator[RenderContext]:
        forloop.it = self._timed(forloop.it)
        with super().loop(namespace, forloop) as context:
            yield context

    def _timed(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self.check_time()
            yield item

    def raise_for_loop_limit(self, length: int = 1) -> None:
        self._loops += length
        if self._loops > _MAX_LOOPS:
            raise LiquidError(f"it runs its loops more than {_MAX_LOOPS} times", token=None)

    def get_buffer(self, buf: object = None) -> StringIO:
        return _Output(self, buf.room if isinstance(buf, _Output) else MAX_TEXT_BYTES)


class _Template(BoundTemplate):
    context_class = _Context

    def _get_buffer(self) -> StringIO:
        return _Output(None, MAX_TEXT_BYTES)


class Sandbox(Environment):
    """Liquid with the tags and filters that messages need."""

    template_class = _Template
    local_namespace_limit = _MAX_LOCALS_BYTES
    seconds = SECONDS

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=False)
        allowed = _TAGS | {TOKEN_CONTENT, TOKEN_OUTPUT, TOKEN_ILLEGAL}
        self.tags = {name: tag for name, tag in self.tags.items() if name in allowed}
        builtin = self.filters
        self.filters = {name: _bounded(name, builtin[name]) for name in sorted(_FILTERS)} | {"date": _date}


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*values: object, **options: object) -> object:
        if _expected_size(name, values) > MAX_TEXT_BYTES:
            raise LiquidError(f"the filter '{name}' returns a text that is too long", token=None)
        result = filter_(*values, **options)
        if _is_large(result):
            raise LiquidError(f"the filter '{name}' returns a value that is too large", token=None)
        return result

    apply.__signature__ = inspect.signature(filter_)  # type: ignore[attr-defined]
    for attribute in ("with_environment", "with_context"):
        if hasattr(filter_, attribute):
            setattr(apply, attribute, getattr(filter_, attribute))
    return apply


def _expected_size(name: str, values: tuple[object, ...]) -> int:
    """The length after a filter that can multiply its input; 0 for other filters."""
    text, first, second = (["" if value is None else str(value) for value in values] + ["", ""])[:3]
    if name == "join":
        return len(text) + text.count(",") * len(first)
    if name == "replace":
        return len(text) + (text.count(first) if first else len(text) + 1) * (len(second) - len(first))
    return 0


def _is_large(value: object) -> bool:
    match value:
        case str():
            return len(value) > MAX_TEXT_BYTES
        case bool():
            return False
        case int():
            return value.bit_length() > _MAX_BITS
        case list() | tuple():
            return len(value) > _MAX_LIST
    return False


def _date(value: Any, form: str = "%Y-%m-%d") -> str:
    """Format a time (RFC 3339 or unix seconds) with strftime, in UTC. Other values stay."""
    try:
        at = parse_rfc3339(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
        return str(value) if at is None else at.strftime(str(form)[:100])
    except (TypeError, ValueError, OverflowError, OSError):
        return str(value) if isinstance(value, str | int | float) else ""
