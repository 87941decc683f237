"""Definitions of event names: what is counted of each, from what the stream tells."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gateway.core.ids import Prefix, derived_id
from gateway.domain.contacts.contacts import Document

MAX_KEYS = 500
MAX_VALUES = 1000
MAX_VALUE_LENGTH = 255
_VALUES = {"TextMetadata": "text", "NumberMetadata": "exact", "LinkMetadata": "url", "StripeMetadata": "stripe_id"}


@dataclass(slots=True)
class Totals:
    """What is added to a definition. `again`: a count from before was replaced, so first and last are to be read anew."""

    count: int = 0
    contact_count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    types: dict[str, set[str]] = field(default_factory=dict)
    rescan: bool = False

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Count one event."""
        self.count += 1
        self._reach(event["occurred_at"], event["occurred_at"])
        for entry in event["metadata"]:
            self.types.setdefault(entry["key"], set()).add(entry["type"])

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Count what the journal tells of summaries that changed by themselves: count, contacts, first_at, last_at, again."""
        self.count += line["count"]
        self.contact_count += line.get("contacts", 0)
        self.rescan |= line["again"]
        self._reach(line["first_at"], line["last_at"])

    def _reach(self, first: datetime, last: datetime) -> None:
        self.first_at = first if self.first_at is None else min(self.first_at, first)
        self.last_at = last if self.last_at is None else max(self.last_at, last)


@dataclass(frozen=True, slots=True)
class ValueGeneration:
    """One set of counted values of one name: new with each reading of all its events."""

    id: str
    name: str
    key: str

    def id_of(self, summary_id: str, value: str | None) -> str:
        """The id of the one count of that value."""
        return derived_id(Prefix.VALUE, self.id, summary_id, *([] if value is None else [value]))


@dataclass(frozen=True, slots=True)
class ValueCount:
    """How often a summary's events had a value; None stands for all that are not told apart."""

    summary_id: str
    contact_id: str
    value: str | None
    count: int
    first_at: datetime
    last_at: datetime

    def plus(self, other: "ValueCount") -> "ValueCount":
        """Both together."""
        first, last = min(self.first_at, other.first_at), max(self.last_at, other.last_at)
        return replace(self, count=self.count + other.count, first_at=first, last_at=last)


def generation_of(definition: Mapping[str, Any]) -> ValueGeneration | None:
    """The build that holds of a definition; None where its values are not counted (or not yet)."""
    if definition.get("summarize_by") is None or definition.get("build") is None:
        return None
    return ValueGeneration(definition["build"], definition["name"], definition["summarize_by"])


def value_of(entry: Mapping[str, Any]) -> str | None:
    """The text that a metadata entry is counted under, cut off at 255 characters; None for what is no single value."""
    match entry["type"]:
        case "BooleanMetadata":
            text = "true" if entry["boolean"] else "false"
        case "DateMetadata":
            text = entry["date"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "MoneyMetadata":
            text = f"{entry['amount_minor']} {entry['currency']}"
        case type_ if type_ in _VALUES:
            text = entry[_VALUES[type_]]
        case _:
            return None
    return str(text[:MAX_VALUE_LENGTH])


def merged(counts: Iterable[ValueCount]) -> list[ValueCount]:
    """The counts, one for each summary and value."""
    found: dict[tuple[str, str | None], ValueCount] = {}
    for line in counts:
        key = line.summary_id, line.value
        found[key] = found[key].plus(line) if key in found else line
    return list(found.values())


def bounded(counts: Iterable[ValueCount]) -> list[ValueCount]:
    """The counts with the 1000 most frequent values of each summary told apart, and the others as one."""
    room: Counter[str] = Counter()
    kept = []
    for line in sorted(merged(counts), key=lambda line: (-line.count, line.value or "")):
        room[line.summary_id] += 1
        kept.append(line if room[line.summary_id] <= MAX_VALUES else replace(line, value=None))
    return merged(kept)


def with_types(stored: Sequence[Document], types: Mapping[str, Iterable[str]]) -> list[Document] | None:
    """The metadata keys of a definition with more of them, up to 500; None where there is nothing new."""
    known = {line["key"]: line["types"] for line in stored}
    found = dict(known)
    for key, added in types.items():
        if key in found or len(found) < MAX_KEYS:
            found[key] = sorted({*found.get(key, ()), *map(metadata_type, added)})
    return None if found == known else [{"key": key, "types": types} for key, types in found.items()]


def metadata_type(name: str) -> str:
    """TEXT for TextMetadata, and so on."""
    return name.removesuffix("Metadata").upper()
