"""Tickets: the commands that change one. Pure: time, ids and actor are arguments."""

from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar, NotRequired, TypedDict

from gateway.core.ids import Minter, Prefix
from gateway.core.json_values import JsonObject
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.support.actors import AUTOMATION, Actor, actor_of
from gateway.domain.support.documents import PartFields, TicketDocument, TicketTypeDocument
from gateway.domain.support.inbox_keys import key_of_number, sort_key, with_sparse
from gateway.domain.support.threads import SNOOZE, Assignees, PartKind, ThreadAggregate, ThreadKind
from gateway.domain.support.ticket_states import TICKET_STATES, TRANSITIONS, TicketState
from gateway.domain.support.ticket_types import TicketCategory, changed_values
from gateway.errors import ErrorCode, UserProblem

SNOOZE_TIMER = f"{ThreadKind.TICKET}_{SNOOZE}"
# An inbox has a list for each facet value, alone and together with the state; the most selective facet first.
FACETS = ("assignee_id", "team_id", "type_id", "unassigned", "category", "any")


class NewTicket(TypedDict):
    title: str
    description: NotRequired[str | None]
    tags: NotRequired[list[str]]
    is_shared: bool
    attributes: JsonObject


class TicketChanges(TypedDict):
    """The values to set; None clears. In `attributes` a name with None is removed, and others stay."""

    title: NotRequired[str]
    description: NotRequired[str | None]
    attributes: NotRequired[JsonObject | None]
    is_shared: NotRequired[bool]
    snoozed_until: NotRequired[datetime | None]
    add_tags: list[str]
    remove_tags: list[str]


class TicketAggregate(ThreadAggregate[TicketDocument]):
    KIND: ClassVar[ThreadKind] = ThreadKind.TICKET
    PART_PREFIX: ClassVar[Prefix] = Prefix.TICKET_PART
    ASSIGNED = ChangeKind.TICKET_ASSIGNED

    def __init__(
        self, stored: TicketDocument, actor: Actor, at: datetime, minter: Minter, *, new: bool = False
    ) -> None:
        """End a snooze that passed before `at`, so that the result does not depend on when the timer runs."""
        super().__init__(stored, actor, at, minter, new=new)
        until = self.document.get("snoozed_until")
        if until is not None and until <= at and (part_id := self._end_snooze(until, AUTOMATION)):
            self.emit(ChangeKind.TICKET_UPDATED, part_id)

    @classmethod
    def created(cls, document: TicketDocument, minter: Minter, assigned: Assignees | None = None) -> "TicketAggregate":
        """Create a ticket, and assign it if `assigned` has a `team_id` or `assignee_id`."""
        aggregate = cls(document, actor_of(document["author"]), document["created_at"], minter, new=True)
        aggregate.index_text(document["title"], document.get("description"))
        aggregate.emit(ChangeKind.TICKET_CREATED, public=aggregate._public)
        if assigned:
            aggregate.assign(assigned)
        return aggregate

    def reply(self, body: str, *, note: bool) -> str:
        """Add a reply, or a note that only teammates see; returns the part id. A contact's reply ends a snooze."""
        if note:
            part_id = self.add_part(PartKind.NOTE, body)
            self.emit(ChangeKind.TICKET_NOTED, part_id)
            return part_id
        before = TicketState(self.document["state"])
        after_reply = TICKET_STATES[before].after_reply if self.actor.is_contact else None
        state = after_reply or before
        transition: PartFields = {} if state is before else {"from_state": before.value, "to_state": state.value}
        part_id = self.add_part(PartKind.COMMENT, body, **transition)
        self.emit(ChangeKind.TICKET_REPLIED, part_id, public=self._public)
        self._change_state(state, part_id)
        if self.actor.is_contact and (unsnooze_id := self._end_snooze(self.at, self.actor)):
            self.emit(ChangeKind.TICKET_UPDATED, unsnooze_id)
        return part_id

    def set_state(self, state: TicketState, body: str | None) -> str:
        before = TicketState(self.document["state"])
        check_transition(self.document, state)
        part_id = self.add_part(PartKind.STATE, body, from_state=before.value, to_state=state.value)
        self._change_state(state, part_id)
        if TICKET_STATES[state].is_resolved:
            self.document.pop("snoozed_until", None)
        return part_id

    def update(self, type_: TicketTypeDocument, values: TicketChanges) -> str | None:
        """Change texts, attributes, sharing, tags and snooze; returns the last part's id, None if nothing changed.

        `values`: from `ticket_inputs.check_update`; attributes are checked here."""
        before, shared = self.document.copy(), self._public
        self._edit(type_, values)
        edited = _edited(before, self.document)
        part_ids = [self.add_part(PartKind.UPDATE, ", ".join(edited))] if edited else []
        if tag_id := self.change_tags(values["add_tags"], values["remove_tags"]):
            part_ids.append(tag_id)
        if "snoozed_until" in values and (snooze_id := self._snooze(values["snoozed_until"])):
            part_ids.append(snooze_id)
        if not part_ids:
            return None
        self.emit(ChangeKind.TICKET_UPDATED, part_ids[-1], public=bool(edited) and (shared or self._public))
        return part_ids[-1]

    @staticmethod
    def shown_texts(document: TicketDocument) -> list[str | None]:
        """Title and description, the current ones and those that were submitted."""
        submitted = (document.get("submitted_title"), document.get("submitted_description"))
        return [document["title"], document.get("description"), *submitted]

    def refresh_index_keys(self) -> None:
        keys = index_keys_of(self.document)
        self.document["lists"], self.document["updated_key"] = keys["lists"], keys["updated_key"]

    def deadlines(self, document: TicketDocument) -> Iterator[tuple[str, datetime | None]]:
        yield SNOOZE_TIMER, document.get("snoozed_until")

    @property
    def _public(self) -> bool:
        return is_public(self.document)

    def _change_state(self, state: TicketState, part_id: str) -> None:
        if self.document["state"] != state:
            rules = TICKET_STATES[state]
            if rules.is_resolved:
                self.document["resolved_at"] = self.document["last_part_at"]
            else:
                self.document.pop("resolved_at", None)
            self.document["state"] = state.value
            self.emit(rules.change, part_id, public=self._public)

    def _edit(self, type_: TicketTypeDocument, values: TicketChanges) -> None:
        if "title" in values:
            self.document["title"] = values["title"]
        if "description" in values:
            if values["description"] is None:
                self.document.pop("description", None)
            else:
                self.document["description"] = values["description"]
        if attributes := values.get("attributes"):
            stored, path = self.document["attributes"], ("attributes",)
            self.document["attributes"] = changed_values(
                type_, stored, attributes, by_contact=self.actor.is_contact, path=path
            )
        if "is_shared" in values:
            self.document["is_shared"] = check_shared(self.document["category"], shared=values["is_shared"])
        if edited := [self.document.get(name) for name in ("title", "description") if name in values]:
            self.learn_edited(*edited)

    def _snooze(self, until: datetime | None) -> str | None:
        if until is None:
            return self._end_snooze(self.at, self.actor)
        if TICKET_STATES[state := TicketState(self.document["state"])].is_resolved:
            message = f"Ticket {self.document['number']} is {state} and cannot be snoozed: change its state first."
            raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, ("snoozedUntil",))
        if self.document.get("snoozed_until") == until:
            return None
        self.document["snoozed_until"] = until
        return self.add_part(PartKind.SNOOZE, snoozed_until=until)

    def _end_snooze(self, at: datetime, author: Actor) -> str | None:
        # The id of the part; None if it was not snoozed.
        if self.document.pop("snoozed_until", None) is None:
            return None
        return self.add_part(PartKind.UNSNOOZE, author=author, at=at)


def is_public(ticket: TicketDocument) -> bool:
    return ticket["category"] == TicketCategory.CUSTOMER and bool(ticket["is_shared"])


def new_ticket(
    id_: str, contact: ContactDocument, type_: TicketTypeDocument, values: NewTicket, author: Actor, at: datetime
) -> TicketDocument:
    """The document of a new ticket, still without a number."""
    ticket: TicketDocument = {
        "_id": id_,
        "workspace_id": contact["workspace_id"],
        "contact_id": contact["_id"],
        "type_id": type_["_id"],
        "category": type_["category"],
        "state": TicketState.SUBMITTED.value,
        "author": author.stored,
        "title": values["title"],
        "submitted_title": values["title"],
        "tags": values.get("tags", []),
        "is_shared": values["is_shared"],
        "attributes": values["attributes"],
        "created_at": at,
        "updated_at": at,
        "last_part_at": at,
        "statistics": {"part_count": 0, "public_part_count": 0},
        "words": [],
        "public_words": [],
        "said_words": [],
    }
    if (description := values.get("description")) is not None:
        ticket["description"] = ticket["submitted_description"] = description
    return ticket


def numbered(ticket: TicketDocument, number: int) -> None:
    """Set a ticket's number and the key to sort by it, in place."""
    ticket["number"], ticket["number_key"] = number, key_of_number(Prefix.TICKET, number)


class TicketKeys(TypedDict):
    lists: list[str]
    updated_key: str


def index_keys_of(ticket: TicketDocument) -> TicketKeys:
    """The fields of the inbox indexes: the lists, and the key of the order of changes."""
    return {"lists": lists_of(ticket), "updated_key": sort_key(ticket["_id"], ticket["updated_at"])}


def lists_of(ticket: TicketDocument) -> list[str]:
    """The inbox lists that hold a ticket: each facet, alone and with its state, and their sparse lists."""
    facets = [("assignee_id", ticket["assignee_id"])] if "assignee_id" in ticket else []
    facets += [("team_id", ticket["team_id"])] if "team_id" in ticket else []
    facets += [("type_id", ticket["type_id"]), ("category", ticket["category"]), ("any", "")]
    facets += [] if "assignee_id" in ticket else [("unassigned", "")]
    lists = [list_key(name, value, state) for name, value in facets for state in ("", ticket["state"])]
    return with_sparse(ticket["_id"], lists)


def list_key(facet: str, value: str, state: str) -> str:
    """The list of tickets with that facet value and state; an empty state stands for any."""
    return f"{facet}:{value}:{state}"


def check_shared(category: str, *, shared: bool) -> bool:
    """Returns `shared`; UserProblem if tickets of the category cannot be shared."""
    if shared and category != TicketCategory.CUSTOMER:
        message = f"A {category} ticket cannot be shared: only CUSTOMER tickets can."
        raise UserProblem(ErrorCode.INVALID, message, ("isShared",))
    return shared


def check_shared_with(ticket: TicketDocument, actor: Actor) -> None:
    """Raise UserProblem FORBIDDEN if a contact acts on a ticket that it does not see."""
    if not actor.is_contact or is_public(ticket):
        return
    problem = f"Ticket {ticket['number']} is not shared with its contact: share it first."
    if ticket["category"] != TicketCategory.CUSTOMER:
        problem = f"Ticket {ticket['number']} is {ticket['category']}: contacts may act only on CUSTOMER tickets."
    raise UserProblem(ErrorCode.FORBIDDEN, problem, ("actor",))


def check_transition(ticket: TicketDocument, state: TicketState) -> None:
    """Raise ILLEGAL_TRANSITION if the state cannot follow; the message lists the states that can."""
    before = TicketState(ticket["state"])
    if state in TRANSITIONS[before]:
        return
    legal = ", ".join(follower for follower in TicketState if follower in TRANSITIONS[before])
    now = "already in that state" if state is before else before
    message = f"Ticket {ticket['number']} is {now}: from {before} it can change to {legal}."
    raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, ("state",))


def _edited(before: TicketDocument, after: TicketDocument) -> list[str]:
    # The names of edited fields as in GraphQL, then of edited attributes.
    edited = [public for name, public in _EDITED.items() if before.get(name) != after.get(name)]
    names = sorted({*before["attributes"], *after["attributes"]})
    return edited + [name for name in names if before["attributes"].get(name) != after["attributes"].get(name)]


_EDITED = {"title": "title", "description": "description", "is_shared": "isShared"}
