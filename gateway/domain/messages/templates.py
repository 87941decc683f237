"""Templates of messages: Liquid in a sandbox, of which only fields of one contact and one event can be read.

What is written is plain text, so nothing is escaped. A template has few tags and filters, no ranges, and limits on what it
loops over, keeps and writes, and on the time that it takes; what cannot work is told when it is saved.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from liquid import BoundTemplate, RenderContext
from liquid.ast import Node
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions.arguments import KeywordArgument
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.exceptions import LiquidError
from liquid.expression import Expression

from gateway.caches import Cache, CacheBudget
from gateway.core.text_rules import check_text
from gateway.core.typed_values import typed_metadata
from gateway.domain.contacts.contacts import Document, display_name
from gateway.domain.messages.liquid_sandbox import SECONDS, Sandbox
from gateway.errors import ErrorCode, UserProblem

MAX_TEMPLATE_LENGTH = 10_000
_MAX_MARK_LENGTH = 500
_PARSED = 500
_TEMPLATE_BYTES, _CHARACTER_BYTES = 2000, 120  # of a parsed template, and at most of each character of it
_CONTACT: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "id": lambda row: row["_id"],
    "displayName": display_name,
    "customAttributes": lambda row: _printable(row["custom_attributes"]),
    "location": lambda row: dict(row.get("location") or {}),
    "externalId": lambda row: row.get("external_id"),
    "role": lambda row: row["role"],
    "email": lambda row: row.get("email"),
    "phone": lambda row: row.get("phone"),
    "name": lambda row: row.get("name"),
    "firstName": lambda row: row.get("first_name"),
    "lastName": lambda row: row.get("last_name"),
    "tags": lambda row: row["tags"],
    "createdAt": lambda row: _moment(row["created_at"]),
    "signedUpAt": lambda row: _moment(row.get("signed_up_at")),
    "lastSeenAt": lambda row: _moment(row.get("last_seen_at")),
}
_EVENT = ("name", "occurredAt", "metadata", "count")


class TemplateError(Exception):
    """This template cannot be rendered with what it was given; the message says why."""


class Templates:
    """Parses, checks and renders templates; what was parsed is remembered."""

    def __init__(self, seconds: float = SECONDS, caches: CacheBudget | None = None) -> None:
        """`seconds`: how much of a processor's time one template may take."""
        self._environment = Sandbox()
        self._environment.seconds = seconds
        self._parsed: Cache[str, BoundTemplate] = Cache(
            caches or CacheBudget(), lambda text, _: _TEMPLATE_BYTES + _CHARACTER_BYTES * len(text), _PARSED
        )

    def check(self, text: str, path: tuple[str, ...], *, event: bool) -> str:
        """The text itself, where it can be a template; UserProblem with the line and the reason. `event`: there is one."""
        check_text(text, path, longest=MAX_TEMPLATE_LENGTH, named=f"The {path[-1]}")
        try:
            _check_marks(text)
            parsed = self._environment.from_string(text)
            _check_ranges(parsed, text)
            _check_filters(parsed, text)
            _check_names(parsed, text, event)
        except LiquidError as error:
            start = 0 if error.token is None else max(0, error.token.start_index)
            raise _invalid(path, _TemplateFlaw(text, start, str(error.message))) from None
        except RecursionError:
            raise _invalid(path, _TemplateFlaw(text, 0, "it nests too deep")) from None
        except _TemplateFlaw as flaw:
            raise _invalid(path, flaw) from None
        return text

    def render(self, text: str, data: Mapping[str, Any]) -> str:
        """What a checked template says; TemplateError."""
        try:
            parsed = self._parsed.get(text)
            if parsed is None:
                parsed = self._environment.from_string(text)
                self._parsed.put(text, parsed)
            return parsed.render(data).strip()
        except LiquidError as error:
            raise TemplateError(str(error.message)) from error
        except Exception as error:  # a library at work on what anybody may have tracked
            raise TemplateError(f"{type(error).__name__}: {error}") from error


def template_data(contact: Mapping[str, Any], event: Mapping[str, Any] | None, count: int = 0) -> Document:
    """All that a template can read. `count`: how often the contact had done what the event tells, that time included."""
    data: Document = {"contact": {name: read(contact) for name, read in _CONTACT.items()}}
    if event is not None:
        metadata = {key: _printable(value) for key, value in event["metadata_json"].items()}
        values = (event["name"], _moment(event["occurred_at"]), metadata, count)
        data["event"] = dict(zip(_EVENT, values, strict=True))
    return data


class _TemplateFlaw(Exception):  # noqa: N818 - told as a UserProblem
    """What is wrong with a template, and where."""

    def __init__(self, text: str, start: int, reason: str) -> None:
        super().__init__(reason)
        self.line = text.count("\n", 0, start) + 1
        self.reason = reason


class _Object(dict[str, Any]):
    """An object among the values: money is written as money, a link as its address, any other as JSON."""

    def __str__(self) -> str:
        try:
            (entry,) = typed_metadata({"": dict(self)})
        except UserProblem:
            entry = {}
        text = entry.get("formatted") or entry.get("url")
        return str(text) if text else orjson.dumps(self).decode()


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return _Object({key: _printable(inner) for key, inner in value.items()})
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check_marks(text: str) -> None:
    """Pass where each mark that opens is closed soon: how long the library's own patterns take grows with its square."""
    at = 0
    while (start := _first(text, ("{{", "{%"), at)) != -1:
        closing = "}}" if text[start + 1] == "{" else "%}"
        end = text.find(closing, start + 2)
        inner = text[start + 2 : end]
        if end == -1 or _first(inner, ("{{", "{%"), 0) != -1:
            raise _TemplateFlaw(text, start, f"'{text[start : start + 2]}' is not closed by '{closing}'")
        if len(inner) > _MAX_MARK_LENGTH:
            raise _TemplateFlaw(
                text,
                start,
                f"what stands between '{text[start : start + 2]}' and '{closing}' is longer than {_MAX_MARK_LENGTH} characters",
            )
        if closing == "%}" and inner.strip("- \t\r\n") in ("raw", "doc"):
            raise _TemplateFlaw(text, start, f"unexpected tag '{inner.strip('- ')}'")
        at = end + 2


def _first(text: str, marks: Iterable[str], start: int) -> int:
    return min((at for mark in marks if (at := text.find(mark, start)) != -1), default=-1)


def _check_ranges(parsed: BoundTemplate, text: str) -> None:
    for expression in _expressions(parsed):
        if isinstance(expression, RangeLiteral):
            raise _TemplateFlaw(text, expression.token.start_index, "ranges such as (1..9) are not allowed")


def _check_filters(parsed: BoundTemplate, text: str) -> None:
    """Pass where every filter is known, and takes what it is given."""
    known = parsed.env.filters
    for expression in _expressions(parsed):
        for used in (expression.filters or ()) if isinstance(expression, FilteredExpression) else ():
            start = used.token.start_index
            if used.name not in known:
                raise _TemplateFlaw(text, start, f"unknown filter '{used.name}'{_resolve_name(used.name, known)}")
            named = {one.name: None for one in used.args if isinstance(one, KeywordArgument)}
            given = [None] * (1 + len(used.args) - len(named))
            hidden = {"environment", "context"} & inspect.signature(known[used.name]).parameters.keys()
            try:
                inspect.signature(known[used.name]).bind(*given, **named, **dict.fromkeys(hidden))
            except TypeError as error:
                raise _TemplateFlaw(
                    text, start, f"the filter '{used.name}' is given wrong arguments: {error}"
                ) from None


def _check_names(parsed: BoundTemplate, text: str, event: bool) -> None:
    """Pass where every name is one that can be read."""
    known = {"contact": tuple(_CONTACT)} | ({"event": _EVENT} if event else {})
    for variable in (one for several in parsed.analyze().globals.values() for one in several):
        root, *others = variable.segments
        if not isinstance(root, str) or root not in known:
            reason = "no event sets this message off" if root == "event" else "a template reads contact and event"
            named = f"'{root}'" if isinstance(root, str) else "a computed name"
            raise _TemplateFlaw(text, variable.span.index, f"{named} is not known here: {reason}")
        if others and isinstance(others[0], str) and others[0] not in known[root]:
            raise _TemplateFlaw(
                text,
                variable.span.index,
                f"'{root}.{others[0]}' is not known{_resolve_name(others[0], known[root], f'{root}.')}",
            )


def _resolve_name(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean '{prefix}{close[0]}'?" if close else ""


def _expressions(parsed: BoundTemplate) -> Iterator[Expression]:
    """Every expression of a template, those within others too."""
    context = RenderContext(parsed)
    waiting: list[Node] = list(parsed.nodes)
    while waiting:
        node = waiting.pop(0)
        waiting = [*node.children(context), *waiting]
        inner = list(node.expressions())
        while inner:
            expression = inner.pop()
            inner += expression.children()
            yield expression


def _invalid(path: tuple[str, ...], flaw: _TemplateFlaw) -> UserProblem:
    end = "" if flaw.reason.endswith("?") else "."
    return UserProblem(ErrorCode.INVALID, f"The {path[-1]} cannot be used, line {flaw.line}: {flaw.reason}{end}", path)
