"""Saves and deletes segments, one at a time per workspace, so that no cycle of references can arise."""

from collections.abc import Mapping
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.text_rules import check_text
from gateway.core.timers import timer_id_of
from gateway.domain.change_kinds import ChangeEvent, ChangeKind
from gateway.domain.changes import new_change_id, segment_changed
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.retention import Retention
from gateway.domain.filters.conditions import parse_filter
from gateway.domain.filters.segments import MAX_NAME_LENGTH, MAX_SEGMENTS, SegmentGraph, stored_filter
from gateway.domain.messages.rules import CAMPAIGN, segments_named
from gateway.errors import BadRequestError, ErrorCode, UserProblem
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore


class SegmentService:
    """Saves and deletes segments; `SegmentMembershipProjection` finds their members."""

    def __init__(self, store: Store, clock: Clock, minter: Minter, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock
        self._minter = minter

    async def save(
        self, workspace_id: str, name: str, filter_: Mapping[str, Any], segment_id: str | None = None
    ) -> Document:
        """Create a segment, or change the one with that id. `filter_` is in snake_case, without nulls."""
        check_text(name, ("name",), longest=MAX_NAME_LENGTH, named="name")
        saved_filter = stored_filter(filter_, "filter")
        self._check_retention(saved_filter)
        new_id = self._minter.mint(Prefix.SEGMENT, self._clock())

        async def attempt(number: int) -> Document:
            store, now = self._store.open(workspace_id), self._clock()
            turn, rows = await store.segments.next_turn(), await store.segments.all()
            before = next((row for row in rows if row["_id"] == (segment_id or new_id)), None)
            if before is not None and (before["name"], before["filter"]) == (name, saved_filter):
                return before
            if segment_id is None:
                _check_room(rows)
                before = {"_id": new_id, "workspace_id": workspace_id, "created_at": now, "revision": 0}
            elif before is None:
                raise _unknown(segment_id)
            after = {**before, "name": name, "filter": saved_filter, "updated_at": now}
            segments = SegmentGraph([*(row for row in rows if row["_id"] != after["_id"]), after])
            segments.check(after["_id"])
            changed = [after, *(segments.rows[id_] for id_ in segments.dependents(after["_id"]))]
            if before.get("filter") == saved_filter:
                await store.database.transaction(lambda session: self._write(store, turn, [after], [], session))
                return after
            changed = [{**row, "revision": row["revision"] + 1, "complete": False} for row in changed]
            saved = segment_changed(new_change_id(self._minter, now), ChangeKind.SEGMENT_SAVED, changed, now)
            await store.database.transaction(lambda session: self._write(store, turn, changed, [saved], session))
            return changed[0]

        return await retry_transaction(attempt)

    async def delete(self, workspace_id: str, segment_id: str) -> str:
        """Delete a segment; returns its id. Its members are removed later, and no change reports that they left."""
        change_id = new_change_id(self._minter, self._clock())

        async def attempt(number: int) -> str:
            store, now = self._store.open(workspace_id), self._clock()
            turn, rows = await store.segments.next_turn(), await store.segments.all()
            row = next((row for row in rows if row["_id"] == segment_id), None)
            if row is None and number > 1 and await store.changes.by_ids([change_id]):
                return segment_id
            if row is None:
                raise _unknown(segment_id)
            _check_not_referenced(SegmentGraph(rows), row)
            _check_not_in_rule(await store.message_rules.all(), row)
            await _check_no_campaign(store, row)
            deleted = segment_changed(change_id, ChangeKind.SEGMENT_DELETED, [row], now)

            async def write(session: Session) -> None:
                await store.segments.turn(turn, session)
                await store.segments.hide(segment_id, session)
                await store.changes.write([deleted], session)

            await store.database.transaction(write)
            return segment_id

        return await retry_transaction(attempt)

    def _check_retention(self, filter_: Mapping[str, Any]) -> None:
        try:
            self._retention.check_saved(parse_filter(filter_), self._clock())
        except BadRequestError as error:
            raise UserProblem(ErrorCode.INVALID, error.message, ("filter",)) from None

    async def _write(
        self, store: WorkspaceStore, turn: int, rows: list[Document], changes: list[ChangeEvent], session: Session
    ) -> None:
        await store.segments.turn(turn, session)
        await store.segments.save(rows, session)
        await store.changes.write(changes, session)


def _check_room(rows: list[Document]) -> None:
    if len(rows) >= MAX_SEGMENTS:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"The workspace has {len(rows)} segments, and {MAX_SEGMENTS} are allowed: delete one first.",
        )


def _check_not_referenced(segments: SegmentGraph, row: Document) -> None:
    for other in segments.referencing(row["_id"]):
        raise UserProblem(
            ErrorCode.CONFLICT,
            f"The filter of the segment '{other['name']}' ({other['_id']}) names '{row['name']}': "
            "change or delete that one first.",
            ("id",),
        )


def _check_not_in_rule(rules: list[Document], row: Document) -> None:
    for rule in rules:
        if row["_id"] in segments_named(rule):
            raise UserProblem(
                ErrorCode.CONFLICT,
                f"The message rule '{rule['name']}' ({rule['_id']}) names '{row['name']}': "
                "change or delete the rule first.",
                ("id",),
            )


async def _check_no_campaign(store: WorkspaceStore, row: Document) -> None:
    ids = [timer_id_of(store.workspace_id, CAMPAIGN, id_) for id_ in await store.campaigns.of_segment(row["_id"])]
    if await store.timers.by_ids(ids):
        message = (
            f"A message to the members of '{row['name']}' is on its way: delete the segment when all are written to."
        )
        raise UserProblem(ErrorCode.CONFLICT, message, ("id",))


def _unknown(segment_id: str) -> UserProblem:
    return UserProblem(
        ErrorCode.NOT_FOUND,
        f"There is no segment with the id '{segment_id}': it was deleted, or never was there.",
        ("id",),
    )
