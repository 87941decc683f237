"""Bulk upserts of contacts from files: each row by the rules of upsertContact, a transaction per batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix, prefix_of
from gateway.domain.contacts.contacts import (
    ContactDraft,
    ContactRef,
    Document,
    IdentityKind,
    check_key,
    check_ref,
    distinct,
    identity,
    new_contact,
    other_ids,
)
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import YEARS
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.events.documents import NamedCounts
from gateway.domain.events.events import NameQuota, check_occurred_at
from gateway.errors import ErrorCode, UserProblem
from gateway.services.contacts.contacts import ContactService
from gateway.services.contacts.writer import ContactWriter
from gateway.services.events.tracking import EventService, ImportedSummaries, added_names
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

MAX_OTHER_IDS = 1000
_MOST_ROWS = 100  # per transaction, so that a slow server finishes within one timeout
_MOST_KEYS = 5000  # per transaction


class RowResult(StrEnum):
    ADDED = "ADDED"
    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True, slots=True)
class UpsertRow:
    """A checked row. `stated_keys` and `values`: what its contact is to have; `keys`: tried in order if
    no contact has one of `ids`; `new`, with the counts of `retained`: the contact to create."""

    stated_keys: Mapping[str, str | None]
    role: str | None
    values: Document
    ids: Sequence[str]
    anonymous_ids: Sequence[str]
    keys: Sequence[tuple[IdentityKind, str]]
    ref: ContactRef
    summaries: Sequence[NamedCounts]
    retained: Sequence[NamedCounts]
    new: ContactDocument

    def refs(self) -> list[ContactRef]:
        by_id = [ContactRef(id=id_) for id_ in self.ids]
        return [self.ref, *by_id, *(ContactRef(anonymous_id=value) for value in self.anonymous_ids)]

    def lines_of(self, contact_id: str) -> list[NamedCounts]:
        """The summaries to import for that contact; `retained` only if it is new."""
        return [*self.summaries, *(self.retained if contact_id == self.new["_id"] else ())]


Outcome = RowResult | UserProblem


@dataclass(slots=True)
class _Plan:
    """What a batch writes, and its outcomes: fewer than rows if the rest depends on what is written first."""

    outcomes: list[ContactDraft | UserProblem] = field(default_factory=list)
    drafts: dict[str, ContactDraft] = field(default_factory=dict)
    summaries: dict[str, dict[tuple[str, bool], NamedCounts]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


class BulkUpserts:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        minter: Minter,
        contacts: ContactService,
        events: EventService,
        writer: ContactWriter,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._minter = minter
        self._contacts = contacts
        self._events = events

    async def upsert_rows(self, workspace_id: str, rows: Sequence[Document | UserProblem]) -> list[Outcome]:
        """The outcome of each row, in order. A row is an input in snake_case, see `contact_of`."""
        now = self._clock()
        checked = [row if isinstance(row, UserProblem) else self._checked(workspace_id, row, now) for row in rows]
        commands = [row for row in checked if isinstance(row, UpsertRow)]
        outcomes: list[Outcome] = []
        for batch in _batches(commands):
            done_count = 0
            while done_count < len(batch):
                batch_outcomes = await self._upsert_rows(workspace_id, batch[done_count:], now)
                outcomes += batch_outcomes
                done_count += len(batch_outcomes)
        remaining = iter(outcomes)
        return [row if isinstance(row, UserProblem) else next(remaining) for row in checked]

    async def _upsert_rows(self, workspace_id: str, batch: Sequence[UpsertRow], now: datetime) -> list[Outcome]:
        async def attempt(_: int) -> list[Outcome]:
            store = self._store.open(workspace_id)
            refs = [ref for command in batch for ref in command.refs()]
            candidates, erased = await store.candidates_for(refs, now, may_become_users=True)
            names = await self._events.name_quota(store, _event_names(batch))
            plan = self._plan(batch, IdentityResolver(candidates, batch[0].new.copy, now, erased), names)
            summaries = await self._events.summaries_with(
                store,
                [(plan.drafts[id_], list(lines.values())) for id_, lines in plan.summaries.items()],
                now,
                changed_alone=True,
            )
            counted = {row["contact_id"] for row in summaries.summaries}
            changed = [draft for draft in plan.drafts.values() if draft.changed_fields() or draft.id in counted]
            if changed:
                await store.database.transaction(partial(self._write, store, changed, plan.names, summaries, now))
            return [
                outcome if isinstance(outcome, UserProblem) else _outcome(outcome, command, counted)
                for outcome, command in zip(plan.outcomes, batch, strict=False)
            ]

        return await retry_transaction(attempt, lambda: self._events.turn(workspace_id))

    async def _write(
        self,
        store: WorkspaceStore,
        drafts: Sequence[ContactDraft],
        names: Iterable[str],
        summaries: ImportedSummaries,
        now: datetime,
        session: Session,
    ) -> None:
        await self._writer.save(store, drafts, now, session, unchanged_since_read=True)
        await self._events.write_summaries(store, names, summaries, now, session)

    def _plan(self, batch: Sequence[UpsertRow], resolver: IdentityResolver, names: NameQuota) -> _Plan:
        plan = _Plan()
        for command in batch:
            released = frozenset(resolver.released)
            try:
                with resolver.rollback_on(UserProblem, _RetryNeeded):
                    draft = self._draft_of(resolver, command)
                    if released & set(draft.document["identities"]):
                        raise _RetryNeeded
                    imported = command.lines_of(draft.id)
                    plan.names = added_names(imported, names, plan.names)
            except _RetryNeeded:
                break
            except UserProblem as problem:
                if released:
                    break
                plan.outcomes.append(problem)
                continue
            plan.outcomes.append(draft)
            plan.drafts[draft.id] = draft
            if imported:
                lines = plan.summaries.setdefault(draft.id, {})
                lines |= {(line["name"], line.get("retained", False)): line for line in imported}
        return plan

    def _draft_of(self, resolver: IdentityResolver, command: UpsertRow) -> ContactDraft:
        resolver.new_contact = command.new.copy
        if command.ids:
            draft = resolver.resolve_imported(command.ids, command.keys, command.role)
        else:
            existing = next((match for key in command.keys if (match := resolver.find(*key)) is not None), None)
            kind, value = command.keys[0]
            draft = existing or resolver.resolve(ContactRef(**{kind.value: value}))
        resolver.change(draft)
        document = draft.document
        document["identities"] = distinct(
            [*document["identities"], *(identity(IdentityKind.ID, id_) for id_ in command.ids)]
        )
        if len(other_ids(document)) > MAX_OTHER_IDS:
            raise UserProblem(
                ErrorCode.LIMIT_EXCEEDED,
                f"The contact would have more than {MAX_OTHER_IDS} other ids, which is the limit.",
                ("otherIds",),
            )
        document["anonymous_ids"] = distinct([*document["anonymous_ids"], *command.anonymous_ids])
        self._contacts.state(resolver, draft, command.stated_keys, command.values)
        resolver.register(draft)
        self._set_updated_at(draft, command)
        return draft

    def _set_updated_at(self, draft: ContactDraft, command: UpsertRow) -> None:
        """Set `updated_at` to now if a stored contact changed; a new contact keeps the times of its row."""
        if draft.stored is not None:
            draft.document["updated_at"] = draft.stored["updated_at"]
            if draft.visible_fields():
                draft.document["updated_at"] = self._clock()

    def _checked(self, workspace_id: str, row: Document, now: datetime) -> UpsertRow | UserProblem:
        try:
            return self._command(workspace_id, row, now)
        except UserProblem as problem:
            return problem

    def _command(self, workspace_id: str, row: Document, now: datetime) -> UpsertRow:
        ids = distinct(_check_id(id_) for id_ in (row.get("id"), *row.get("other_ids", ())) if id_ is not None)
        anonymous = distinct(check_key(IdentityKind.ANONYMOUS, value) for value in row.get("anonymous_ids", ()))
        ref = check_ref(
            {
                "id": ids[0] if ids else None,
                "external_id": row.get("external_id"),
                "email": row.get("email"),
                "anonymous_id": anonymous[0] if anonymous else None,
            }
        )
        strong = [key for key in ref.keys() if key[0] in (IdentityKind.EXTERNAL, IdentityKind.EMAIL)]  # noqa: SIM118
        created = check_occurred_at(row.get("created_at"), now, YEARS, ("createdAt",)) or now
        updated = check_occurred_at(row.get("updated_at"), now, YEARS, ("updatedAt",)) or now
        contact = new_contact(self._minter.mint(Prefix.CONTACT, created), workspace_id, now)
        retained = self._events.check_summaries(row.get("retained_summaries") or [], now, "retainedSummaries")
        return UpsertRow(
            stated_keys={kind.value: row[kind.value] for kind in IdentityKind if kind.value in row},
            role=row.get("role"),
            values=self._contacts.check_values(row),
            ids=ids,
            anonymous_ids=anonymous,
            keys=strong[:1] or [(IdentityKind.ANONYMOUS, value) for value in anonymous],
            ref=ref,
            summaries=self._events.check_summaries(row.get("imported_summaries") or [], now),
            retained=[{**line, "retained": True} for line in retained],
            new={**contact, "created_at": created, "updated_at": updated},
        )


class _RetryNeeded(Exception):  # noqa: N818 - not an error: control flow
    """A row needs a key that an earlier row of its batch released: it is tried again once that is stored."""


def _event_names(batch: Sequence[UpsertRow]) -> list[str]:
    return [line["name"] for command in batch for line in (*command.summaries, *command.retained)]


def _outcome(draft: ContactDraft, command: UpsertRow, counted: set[str]) -> RowResult:
    if draft.id == command.new["_id"]:
        return RowResult.ADDED
    return RowResult.CHANGED if draft.changed_fields() or draft.id in counted else RowResult.UNCHANGED


def _check_id(id_: str) -> str:
    if prefix_of(id_) is not Prefix.CONTACT:
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{id_:.60}' is not a contact id: ids of other systems belong in externalId.",
            ("id",),
        )
    return id_


def _batches(commands: Sequence[UpsertRow]) -> Iterator[list[UpsertRow]]:
    batch: list[UpsertRow] = []
    keys = 0
    for command in commands:
        keys += len(command.ids) + len(command.anonymous_ids) + 3
        if batch and (keys > _MOST_KEYS or len(batch) == _MOST_ROWS):
            yield batch
            batch, keys = [], len(command.ids) + len(command.anonymous_ids) + 3
        batch.append(command)
    if batch:
        yield batch
