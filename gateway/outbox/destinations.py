"""What the outbox asks of a destination: a system that deliveries are sent to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from gateway.domain.contacts.contacts import ContactDraft, Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.events.documents import EventDocument
from gateway.domain.support.threads import Changeset
from gateway.outbox.deliveries import NewDelivery, Queue
from gateway.outbox.documents import AttemptDocument, DeliveryDocument, LaneChanges
from gateway.outbox.repository import Deliveries, Lanes
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore


@dataclass(frozen=True, slots=True)
class Erasure:
    """A contact that is being erased. `is_known`: whether the destination may have received it."""

    contact: ContactDocument
    is_known: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What one transaction changes. `contacts_by_id`: those of the events."""

    contacts: Sequence[ContactDraft] = ()
    events: Sequence[EventDocument] = ()
    contacts_by_id: Mapping[str, ContactDocument] = field(default_factory=dict)
    thread: Changeset[Any] | None = None
    erasure: Erasure | None = None


class Outcome(StrEnum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    PAUSE = "PAUSE"  # nothing of the connection can be sent until somebody corrects it
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one attempt, which is stored with the delivery.

    `note`: what to say of it once it is delivered. `lane_fields`: fields to keep in its lane."""

    row: DeliveryDocument
    outcome: Outcome
    attempt: AttemptDocument
    note: str | None = None
    lane_fields: LaneChanges = field(default_factory=LaneChanges)


@dataclass(frozen=True, slots=True)
class SentBatch:
    """The results of what was sent. `not_before`: by lane id, when the destination takes more of it."""

    results: Sequence[Result]
    not_before: Mapping[str, datetime] = field(default_factory=dict)


class Connection(Protocol):
    @property
    def workspace_id(self) -> str: ...

    @property
    def resumed_at(self) -> datetime | None:
        """When sending was last resumed: retries are given their whole time again."""

    @property
    def is_probing(self) -> bool:
        """Whether so much failed that one lane at a time is tried."""

    def is_sending(self, now: datetime) -> bool:
        """Whether deliveries are sent now; if not, they wait."""


C = TypeVar("C", bound=Connection)


class Sender(Protocol):
    async def send(self, rows: Sequence[DeliveryDocument], queue: Queue, has_time: Callable[[], bool]) -> SentBatch:
        """Send deliveries, those of a lane in order, for as long as there is time. Rows without a result stay queued."""


# Gives the sender of a connection; None if it cannot send, which its health then says.
Senders = Callable[[WorkspaceStore, C], Awaitable[Sender | None]]


class Destination(Protocol[C]):
    """A system that deliveries are sent to. Its deliveries and lanes are in collections of its own, so that destinations
    never wait for each other."""

    @property
    def name(self) -> str: ...

    @property
    def deliveries(self) -> type[Deliveries]:
        """The repository of its deliveries."""

    @property
    def lanes(self) -> type[Lanes]: ...

    async def is_active(self, workspace_id: str) -> bool:
        """Whether changes of the workspace are queued. Asked in every command: a cached answer is enough."""

    async def active(self) -> Sequence[C]:
        """The connections of all workspaces whose deliveries are queued."""

    async def read(self, workspace_id: str) -> C:
        """The connection of a workspace as it is stored now."""

    async def deliveries_for(self, store: WorkspaceStore, changes: Changes, now: datetime) -> Sequence[NewDelivery]:
        """What the destination receives for these changes, in order for each contact. They are not committed yet."""

    def profile_of(self, contact: ContactDocument) -> NewDelivery | None:
        """The whole profile of a contact, which goes before its first event; None if the destination keeps none."""
        return None

    def merge(self, waiting: Document, newer: Document) -> Document:
        """The payload of a profile that replaces one that was not sent yet, or that failed."""
        return newer

    def open(self) -> AbstractAsyncContextManager[Senders[C]]:
        """Open what the senders of a process share, such as its HTTP connections."""

    async def update_health(self, connection: C, results: Sequence[Result]) -> None:
        """Pause the connection or back off, after a batch."""

    async def stale(
        self, store: WorkspaceStore, rows: Sequence[DeliveryDocument], session: Session
    ) -> Sequence[DeliveryDocument]:
        """Which of these backfilled profiles are outdated, and not to be sent."""
        return ()

    async def record_changes(
        self,
        store: WorkspaceStore,
        rows: Sequence[DeliveryDocument],
        states_before: Mapping[str, str],
        now: datetime,
        session: Session,
    ) -> None:
        """Count deliveries, as they are now, that left these states (by id), in the transaction of that."""

    async def contact_erased(self, store: WorkspaceStore, session: Session) -> None:
        """Note the erasure of a contact in its transaction, also while the destination is not active."""


AnyDestination = Destination[Any]


class OutboxStore:
    """The deliveries to one destination in one workspace, and what is stored with them."""

    def __init__(self, store: WorkspaceStore, destination: AnyDestination) -> None:
        self.workspace = store
        self.workspace_id = store.workspace_id
        self.database = store.database
        self.changes = store.changes
        self.deliveries = store.repository(destination.deliveries)
        self.lanes = store.repository(destination.lanes)
