"""Event definitions: totals, metadata keys and value counts of each event name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.core.ids import Prefix, derived_id
from gateway.core.typed_values import Entry
from gateway.domain.events.documents import DefinitionDocument, EventDocument, MetadataKey, SummaryChange

MAX_KEYS = 500
MAX_VALUES = 1000
MAX_VALUE_LENGTH = 255


@dataclass(slots=True)
class Totals:
    """Increments of a definition. `rescan`: a count was replaced, so first and last must be read again."""

    count: int = 0
    contact_count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    types: dict[str, set[str]] = field(default_factory=dict)
    rescan: bool = False

    def add_event(self, event: EventDocument) -> None:
        self.count += 1
        self._reach(event["occurred_at"], event["occurred_at"])
        for entry in event["metadata"]:
            self.types.setdefault(entry["key"], set()).add(entry["type"])

    def add_line(self, line: SummaryChange) -> None:
        """Apply a change log line of kind `summaries`: count, contacts, first_at, last_at, again."""
        self.count += line["count"]
        self.contact_count += line.get("contacts", 0)
        self.rescan |= line["again"]
        self._reach(line["first_at"], line["last_at"])

    def _reach(self, first: datetime, last: datetime) -> None:
        self.first_at = first if self.first_at is None else min(self.first_at, first)
        self.last_at = last if self.last_at is None else max(self.last_at, last)


@dataclass(frozen=True, slots=True)
class ValueGeneration:
    """One full count of the values of an event name."""

    id: str
    name: str
    key: str

    def id_of(self, summary_id: str, value: str | None) -> str:
        return derived_id(Prefix.VALUE, self.id, summary_id, *([] if value is None else [value]))


@dataclass(frozen=True, slots=True)
class ValueCount:
    """How often a summary's events had a value. None sums all values beyond the limit."""

    summary_id: str
    contact_id: str
    value: str | None
    count: int
    first_at: datetime
    last_at: datetime

    def plus(self, other: "ValueCount") -> "ValueCount":
        first, last = min(self.first_at, other.first_at), max(self.last_at, other.last_at)
        return replace(self, count=self.count + other.count, first_at=first, last_at=last)


def generation_of(definition: DefinitionDocument) -> ValueGeneration | None:
    """The current generation; None if values are not counted, or not yet."""
    key, build = definition.get("summarize_by"), definition.get("build")
    return None if key is None or build is None else ValueGeneration(build, definition["name"], key)


def value_of(entry: Entry) -> str | None:
    """The text that an entry is counted under; None for objects and lists."""
    match entry["type"]:
        case "BooleanMetadata":
            text = "true" if entry["boolean"] else "false"
        case "DateMetadata":
            text = entry["date"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "MoneyMetadata":
            text = f"{entry['amount_minor']} {entry['currency']}"
        case "TextMetadata":
            text = entry["text"]
        case "NumberMetadata":
            text = entry["exact"]
        case "LinkMetadata":
            text = entry["url"]
        case "StripeMetadata":
            text = entry["stripe_id"]
        case _:
            return None
    return text[:MAX_VALUE_LENGTH]


def merged(counts: Iterable[ValueCount]) -> list[ValueCount]:
    sums: dict[tuple[str, str | None], ValueCount] = {}
    for value_count in counts:
        key = value_count.summary_id, value_count.value
        sums[key] = sums[key].plus(value_count) if key in sums else value_count
    return list(sums.values())


def bounded(counts: Iterable[ValueCount]) -> list[ValueCount]:
    """Keep the 1000 most frequent values of each summary; sum the rest under None."""
    ranks: Counter[str] = Counter()
    limited = []
    for value_count in sorted(merged(counts), key=lambda value_count: (-value_count.count, value_count.value or "")):
        ranks[value_count.summary_id] += 1
        limited.append(value_count if ranks[value_count.summary_id] <= MAX_VALUES else replace(value_count, value=None))
    return merged(limited)


def with_types(stored: Sequence[MetadataKey], types: Mapping[str, Iterable[str]]) -> list[MetadataKey] | None:
    """Add types to a definition's metadata keys, up to 500; None if nothing changes."""
    before = {row["key"]: row["types"] for row in stored}
    after = dict(before)
    for key, added in types.items():
        if key in after or len(after) < MAX_KEYS:
            after[key] = sorted({*after.get(key, ()), *map(metadata_type, added)})
    return None if after == before else [{"key": key, "types": types} for key, types in after.items()]


def metadata_type(name: str) -> str:
    """The public type name: TEXT for TextMetadata."""
    return name.removesuffix("Metadata").upper()
