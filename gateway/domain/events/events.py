"""Events: the command to track one, and what a group of commands writes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NotRequired, TypedDict

from gateway.core.clock import to_milliseconds
from gateway.core.idempotency import MAX_KEY_LENGTH, Claim, claim
from gateway.core.ids import Prefix, derived_id
from gateway.core.json_values import Json, JsonObject
from gateway.core.principals import Principal
from gateway.core.text_rules import check_text
from gateway.core.typed_values import Entry, check_metadata, typed_metadata
from gateway.core.unset import UNSET, Unset
from gateway.domain.contacts.contacts import ContactDraft, ContactRef
from gateway.domain.contacts.documents import ContactRefFields
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.contacts.subject_refs import namespace_of, subject_ref
from gateway.domain.events.documents import EventDocument, StoredEvent, SummaryIncrement
from gateway.errors import ErrorCode, UserProblem, error_path
from gateway.settings import Settings

MUTATION = "trackEvent"
_AHEAD = timedelta(minutes=5)
TRACK_YEARS = 10
IMPORT_YEARS = 30


class EventFields(TypedDict):
    """The fields of an event as a caller gives them; omitted ones are absent."""

    contact: ContactRefFields
    name: str
    occurred_at: NotRequired[datetime | None]
    metadata: NotRequired[JsonObject]
    idempotency_key: NotRequired[str]
    counts_as_seen: NotRequired[bool]


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """A validated command. `occurred_at` None means when it is received."""

    contact: ContactRef
    name: str
    occurred_at: datetime | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    typed: Sequence[Entry] = ()
    counts_as_seen: bool = True
    claim: Claim | None = None
    imported: bool = False
    received_at: datetime | None = None  # None: now
    from_page: bool = False  # sent with a page's key or a contact token


def track_event(
    fields: EventFields,
    settings: Settings,
    now: datetime,
    *,
    years: int = TRACK_YEARS,
    speaker: Principal | None = None,
) -> TrackEvent:
    """Parse the fields of an event. Raises UserProblem. `speaker`: None is the operator."""
    metadata = fields.get("metadata") or {}
    check_metadata(metadata, settings, ("metadata",))
    with error_path("contact"):
        contact = subject_ref(fields["contact"], speaker)
    return TrackEvent(
        contact=contact,
        name=check_event_name(fields["name"], settings),
        occurred_at=check_occurred_at(fields.get("occurred_at"), now, years),
        metadata=metadata,
        typed=typed_metadata(metadata, ("metadata",)),
        counts_as_seen=fields.get("counts_as_seen", True),
        claim=claim(
            MUTATION,
            check_idempotency_key(fields.get("idempotency_key")),
            _without_key(fields),
            namespace_of(contact, speaker),
        ),
        from_page=speaker is not None and (speaker.publishable or speaker.contact_id is not None),
    )


def check_event_name(name: str, settings: Settings, path: tuple[str, ...] = ("name",)) -> str:
    return check_text(name, path, longest=settings.max_event_name_length, named="The event's name")


def check_idempotency_key(key: str | None) -> str | None:
    return None if key is None else check_text(key, ("idempotencyKey",), longest=MAX_KEY_LENGTH, named="idempotencyKey")


def check_occurred_at(
    at: datetime | None, now: datetime, years: int, path: tuple[str, ...] = ("occurredAt",)
) -> datetime | None:
    """The time in milliseconds. UserProblem where it is too far in the past or future."""
    if at is None:
        return None
    try:
        at = to_milliseconds(at.astimezone(UTC))
    except OverflowError:
        raise UserProblem(ErrorCode.INVALID, f"{path[-1]} must be in the years 1 to 9999.", path) from None
    if at > now + _AHEAD:
        raise UserProblem(
            ErrorCode.INVALID,
            f"{path[-1]} {at.isoformat()} is more than 5 minutes ahead: check the clock, or the unit of the time.",
            path,
        )
    if at < now - timedelta(days=years * 365.25):
        raise UserProblem(
            ErrorCode.INVALID,
            f"{path[-1]} {at.isoformat()} is more than {years} years ago: check the unit of the time.",
            path,
        )
    return at


@dataclass(frozen=True, slots=True)
class DescribeEvent:
    """What an event name means; None clears."""

    name: str
    description: str | Unset | None = UNSET
    archived: bool | Unset | None = UNSET
    summarize_by: str | Unset | None = UNSET


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """A command with the id and times that all attempts share."""

    command: TrackEvent
    event_id: str
    occurred_at: datetime
    received_at: datetime

    @property
    def identity(self) -> str:
        """The idempotency key, or else the event's id. Unique in the workspace."""
        return self.command.claim.key if self.command.claim else self.event_id


@dataclass(frozen=True, slots=True)
class TrackResult:
    """The event (or its tombstone), and whether it had been tracked before."""

    event: StoredEvent
    duplicate: bool


Outcome = TrackResult | UserProblem


@dataclass(slots=True)
class GroupPlan:
    """What a group of commands writes in one transaction; `outcomes` in their order."""

    outcomes: list[Outcome] = field(default_factory=list)
    events: list[EventDocument] = field(default_factory=list)
    seen: dict[str, datetime] = field(default_factory=dict)
    drafts: dict[str, ContactDraft] = field(default_factory=dict)
    new_names: dict[str, bool] = field(default_factory=dict)  # by name: whether a page sent it

    def summaries(self) -> list[SummaryIncrement]:
        """The increments of each summary, one per contact and name."""
        return add_to_summary(self.events)


@dataclass(frozen=True, slots=True)
class NameQuota:
    """Names new to the workspace, and how many may be added: in all, and by pages."""

    new: frozenset[str] = frozenset()
    free: int = 0
    free_for_pages: int = 0

    def check_page(self, name: str, added: Mapping[str, bool]) -> None:
        """Raise LIMIT_EXCEEDED where the name is new and pages may add no more."""
        if name in self.new and name not in added and sum(added.values()) >= self.free_for_pages:
            raise UserProblem(
                ErrorCode.LIMIT_EXCEEDED,
                f"'{name}' would be a new event name, but pages have added as many as allowed (GATEWAY_MAX_PAGE_EVENT_NAMES): "
                "describe it with describeEvent, track it once with an API key of a server, or use metadata to distinguish events.",
                ("name",),
            )

    def check(self, name: str, added: Collection[str] = ()) -> None:
        """Raise LIMIT_EXCEEDED where the name is new and no more may be added."""
        if name in self.new and name not in added and len(added) >= self.free:
            raise UserProblem(
                ErrorCode.LIMIT_EXCEEDED,
                f"'{name}' would be a new event name, but the workspace has as many as allowed: "
                "archive one with describeEvent, or use metadata to distinguish events.",
                ("name",),
            )


def plan_group(
    planned: Iterable[PlannedEvent], stored: Mapping[str, StoredEvent], resolver: IdentityResolver, names: NameQuota
) -> GroupPlan:
    """Decide each command in order. `stored`: events by identity."""
    group, events = GroupPlan(), dict(stored)
    for item in planned:
        try:
            group.outcomes.append(_decide(item, events, resolver, names, group))
        except UserProblem as problem:
            group.outcomes.append(problem)
    return group


def _decide(
    item: PlannedEvent, events: dict[str, StoredEvent], resolver: IdentityResolver, names: NameQuota, group: GroupPlan
) -> TrackResult:
    if (event := events.get(item.identity)) is not None:
        if item.command.claim:
            item.command.claim.check(event.get("fingerprint", ""))
        return TrackResult(event, duplicate=event["_id"] != item.event_id)
    names.check(item.command.name, group.new_names)
    if item.command.from_page:
        names.check_page(item.command.name, group.new_names)
    with error_path("contact"):
        draft = resolver.resolve(item.command.contact)
    if item.command.name in names.new:
        group.new_names.setdefault(item.command.name, item.command.from_page)
    group.drafts[draft.id] = draft
    event = events[item.identity] = event_document(item, draft)
    group.events.append(event)
    if item.command.counts_as_seen:
        group.seen[draft.id] = max(item.occurred_at, group.seen.get(draft.id, item.occurred_at))
    return TrackResult(event, duplicate=False)


def event_document(item: PlannedEvent, contact: ContactDraft) -> EventDocument:
    document: EventDocument = {
        "_id": item.event_id,
        "workspace_id": contact.document["workspace_id"],
        "contact_id": contact.id,
        "name": item.command.name,
        "occurred_at": item.occurred_at,
        "received_at": item.received_at,
        "metadata": list(item.command.typed),
        "metadata_json": dict(item.command.metadata),
        "identity": item.identity,
    }
    if item.command.claim and item.command.claim.fingerprint:
        document["fingerprint"] = item.command.claim.fingerprint
    if item.command.imported:
        document["imported"] = True  # imports trigger no messages
    return document


def add_to_summary(events: Iterable[EventDocument]) -> list[SummaryIncrement]:
    """Count, first and last of these events per contact and name."""
    summaries: dict[str, SummaryIncrement] = {}
    for event in events:
        summary_id = summary_id_of(event["workspace_id"], event["contact_id"], event["name"])
        at = event["occurred_at"]
        summary = summaries.setdefault(
            summary_id,
            {
                "_id": summary_id,
                "contact_id": event["contact_id"],
                "name": event["name"],
                "count": 0,
                "first_at": at,
                "last_at": at,
            },
        )
        summary["count"] += 1
        summary["first_at"] = min(summary["first_at"], at)
        summary["last_at"] = max(summary["last_at"], at)
    return list(summaries.values())


def summary_id_of(workspace_id: str, contact_id: str, name: str) -> str:
    return derived_id(Prefix.SUMMARY, workspace_id, contact_id, name)


def definition_id_of(workspace_id: str, name: str) -> str:
    return derived_id(Prefix.DEFINITION, workspace_id, name)


def _without_key(fields: EventFields) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name != "idempotency_key"}
