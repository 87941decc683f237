"""Message templates: sandboxed Liquid that can read fields of one contact and one event.

The output is plain text, so nothing is escaped. There are few tags and filters, no ranges, and limits on loops,
variables, output and time. What can be checked is checked when a template is saved.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import orjson
from liquid import BoundTemplate, RenderContext
from liquid.ast import Node
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions.arguments import KeywordArgument
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.exceptions import LiquidError
from liquid.expression import Expression

from gateway.caches import Cache, CacheBudget
from gateway.core.json_values import Json, JsonObject
from gateway.core.text_rules import check_text
from gateway.core.typed_values import typed_metadata
from gateway.domain.contacts.contacts import by_name, display_name
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import CONTACT_FIELDS, ContactField, FieldKind
from gateway.domain.events.documents import EventDocument
from gateway.domain.messages.liquid_sandbox import SECONDS, Sandbox
from gateway.errors import ErrorCode, UserProblem

MAX_TEMPLATE_LENGTH = 10_000
_MAX_MARK_LENGTH = 500
_PARSED = 500
_TEMPLATE_BYTES, _CHARACTER_BYTES = 2000, 120  # estimated memory: per parsed template, plus per character at most
_EVENT = ("name", "occurredAt", "metadata", "count")


Reader = Callable[[ContactDocument], object]
# What a template can read: the fields of `contact` and `event`.
TemplateData = dict[str, dict[str, object]]


class TemplateError(Exception):
    """The template cannot be rendered with this data; the message says why."""


class Templates:
    """Parses, checks and renders templates. Parsed templates are cached."""

    def __init__(self, seconds: float = SECONDS, caches: CacheBudget | None = None) -> None:
        """`seconds`: CPU time that one rendering may take."""
        self._environment = Sandbox()
        self._environment.seconds = seconds
        self._parsed: Cache[str, BoundTemplate] = Cache(
            caches or CacheBudget(), lambda text, _: _TEMPLATE_BYTES + _CHARACTER_BYTES * len(text), _PARSED
        )

    def check(self, text: str, path: tuple[str, ...], *, event: bool) -> str:
        """Return the text if it is a valid template. UserProblem has line and reason."""
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
            raise _invalid(path, _TemplateFlaw(text, 0, "it is nested too deeply")) from None
        except _TemplateFlaw as flaw:
            raise _invalid(path, flaw) from None
        return text

    def render(self, text: str, data: TemplateData) -> str:
        """Render a checked template. Raises TemplateError."""
        try:
            parsed = self._parsed.get(text)
            if parsed is None:
                parsed = self._environment.from_string(text)
                self._parsed.put(text, parsed)
            return parsed.render(data).strip()
        except LiquidError as error:
            raise TemplateError(str(error.message)) from error
        except Exception as error:  # the library may fail in any way on tracked data
            raise TemplateError(f"{type(error).__name__}: {error}") from error


def _reader(field: ContactField) -> Reader:
    name = field.name
    match field.kind:
        case FieldKind.TIME:
            return lambda row: _moment(by_name(row).get(name))
        case FieldKind.LOCATION:
            return lambda row: dict(by_name(row).get(name) or {})
        case FieldKind.ATTRIBUTES:
            return lambda row: _printable(by_name(row)[name])
    return lambda row: by_name(row).get(name)


_CONTACT: dict[str, Reader] = {
    "id": lambda row: row["_id"],
    "displayName": display_name,
    **{field.api_name: _reader(field) for field in CONTACT_FIELDS if field.in_templates},
}


def template_data(contact: ContactDocument, event: EventDocument | None, count: int = 0) -> TemplateData:
    """All that a template can read. `count`: how often the contact had done the event, this time included."""
    data: TemplateData = {"contact": {name: read(contact) for name, read in _CONTACT.items()}}
    if event is not None:
        metadata = {key: _printable(value) for key, value in event["metadata_json"].items()}
        values = (event["name"], _moment(event["occurred_at"]), metadata, count)
        data["event"] = dict(zip(_EVENT, values, strict=True))
    return data


class _TemplateFlaw(Exception):  # noqa: N818 - reported as a UserProblem
    def __init__(self, text: str, start: int, reason: str) -> None:
        super().__init__(reason)
        self.line = text.count("\n", 0, start) + 1
        self.reason = reason


class _Object(JsonObject):
    """Prints money as money, a link as its address, and anything else as JSON."""

    def __str__(self) -> str:
        with suppress(UserProblem):
            (entry,) = typed_metadata({"": dict(self)})
            if text := entry.get("formatted") or entry.get("url"):
                return text
        return orjson.dumps(self).decode()


def _printable(value: Json) -> Json:
    if isinstance(value, dict):
        return _Object({key: _printable(inner) for key, inner in value.items()})
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check_marks(text: str) -> None:
    """Check that marks are closed soon: the library's patterns take quadratic time."""
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
                f"the text between '{text[start : start + 2]}' and '{closing}' is longer than {_MAX_MARK_LENGTH} characters",
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
    filters = parsed.env.filters
    for expression in _expressions(parsed):
        for call in (expression.filters or ()) if isinstance(expression, FilteredExpression) else ():
            start = call.token.start_index
            if call.name not in filters:
                raise _TemplateFlaw(text, start, f"unknown filter '{call.name}'{_suggestion(call.name, filters)}")
            named = {argument.name: None for argument in call.args if isinstance(argument, KeywordArgument)}
            positional = [None] * (1 + len(call.args) - len(named))
            hidden = {"environment", "context"} & inspect.signature(filters[call.name]).parameters.keys()
            try:
                inspect.signature(filters[call.name]).bind(*positional, **named, **dict.fromkeys(hidden))
            except TypeError as error:
                raise _TemplateFlaw(text, start, f"the filter '{call.name}' has wrong arguments: {error}") from None


def _check_names(parsed: BoundTemplate, text: str, event: bool) -> None:
    fields = {"contact": tuple(_CONTACT)} | ({"event": _EVENT} if event else {})
    for variable in (variable for variables in parsed.analyze().globals.values() for variable in variables):
        root, *path = variable.segments
        if not isinstance(root, str) or root not in fields:
            reason = "this message has no event" if root == "event" else "a template reads contact and event"
            named = f"'{root}'" if isinstance(root, str) else "a computed name"
            raise _TemplateFlaw(text, variable.span.index, f"{named} is unknown here: {reason}")
        if path and isinstance(path[0], str) and path[0] not in fields[root]:
            raise _TemplateFlaw(
                text,
                variable.span.index,
                f"'{root}.{path[0]}' is unknown{_suggestion(path[0], fields[root], f'{root}.')}",
            )


def _suggestion(name: str, names: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f": did you mean '{prefix}{close[0]}'?" if close else ""


def _expressions(parsed: BoundTemplate) -> Iterator[Expression]:
    context = RenderContext(parsed)
    nodes: list[Node] = list(parsed.nodes)
    while nodes:
        node = nodes.pop(0)
        nodes = [*node.children(context), *nodes]
        expressions = list(node.expressions())
        while expressions:
            expression = expressions.pop()
            expressions += expression.children()
            yield expression


def _invalid(path: tuple[str, ...], flaw: _TemplateFlaw) -> UserProblem:
    end = "" if flaw.reason.endswith("?") else "."
    return UserProblem(ErrorCode.INVALID, f"The {path[-1]} is invalid in line {flaw.line}: {flaw.reason}{end}", path)
