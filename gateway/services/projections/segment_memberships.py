"""Segment membership projection: evaluates contacts that the change stream names, and commits changes with its offset,
so that each change is published once.

Scheduled reviews find the changes that time alone causes; a scan fills a saved segment.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.bus.change_events import kind_of_insert
from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix, lowest_id
from gateway.core.time_ranges import TimeRange
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.changes import new_change_id
from gateway.domain.contacts.contacts import Document
from gateway.domain.filters.access_paths import access_path
from gateway.domain.filters.segments import ContactTouch, SegmentGraph, add_touch
from gateway.services.messages.triggers import TriggerService
from gateway.services.projections.consumer import ProjectionConsumer
from gateway.services.projections.membership_update import MembershipUpdate
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Insert, InsertStream, Session
from gateway.store.events.events import Events
from gateway.store.filters.scans import Candidate, IdScan
from gateway.store.filters.segments import any_segment, reviews_due, workspaces_with_segments
from gateway.store.workspace_store import Store, WorkspaceStore

_AT_ONCE = 1000
_AT_ONCE_WITH_EVENTS = 200  # a long step would delay new changes
_DUE_AT_ONCE = 500
_SWEEP_SECONDS = 1.0
_WORK_SECONDS = 0.25


class SegmentMembershipProjection(ProjectionConsumer):
    """Maintains the members of all segments, in the process that has the lease."""

    NAME = "segments"
    WATCHED = (Events.COLLECTION, ChangeLog.COLLECTION)

    def __init__(self, store: Store, clock: Clock, minter: Minter, triggers: TriggerService) -> None:
        super().__init__(store, clock, minter)
        self._triggers = triggers
        self._swept_at = 0.0

    async def _rebuild_all(self, since: Sequence[Insert]) -> list[Document]:
        workspace_ids = await workspaces_with_segments(self._store.database)
        return [{"workspace_id": id_, "segment_id": None} for id_ in workspace_ids] + _jobs_of(since)

    async def _is_needed(self) -> bool:
        """An open stream costs the database something even without segments."""
        return await any_segment(self._store.database)

    async def _step(self, inserts: InsertStream) -> None:
        if batch := await self._next(inserts):
            await self._process(batch)
        if time.monotonic() >= self._swept_at + _SWEEP_SECONDS:
            await self._sweep()
        until = time.monotonic() + _WORK_SECONDS
        while self._pending and time.monotonic() < until:  # the next read may wait for inserts, so finish jobs first
            await self._run_jobs(self._pending[0])

    async def _process(self, batch: Sequence[Insert]) -> None:
        updates = []
        for workspace_id, touches in _touches(batch).items():
            update = await self._open_update(workspace_id)
            if update.segments.rows:
                segment_ids = {id_: update.segments.affected_by(touch) for id_, touch in touches.items()}
                imported = frozenset(id_ for id_, touch in touches.items() if touch.by_import)
                await update.evaluate(segment_ids, imported=imported)
                updates.append(update)
        await self._write(batch[-1].token, self._pending + _jobs_of(batch), updates)

    async def _sweep(self) -> None:
        due = await reviews_due(self._store.database, self._clock(), _DUE_AT_ONCE)
        by_workspace: dict[str, list[str]] = defaultdict(list)
        for row in due:
            by_workspace[row["workspace_id"]].append(row["_id"])
        updates = []
        for workspace_id, contact_ids in by_workspace.items():
            update = await self._open_update(workspace_id)
            await update.evaluate(dict.fromkeys(contact_ids, update.segments.time_dependent()), review=True)
            updates.append(update)
        if updates:
            await self._write(self._token, self._pending, updates)
        if len(due) < _DUE_AT_ONCE:
            self._swept_at = time.monotonic()

    async def _run_jobs(self, job: Document) -> None:
        other_jobs = self._pending[1:]
        update = await self._open_update(job["workspace_id"])
        row = update.segments.rows.get(job["segment_id"] or "")
        if job["segment_id"] is None:
            jobs = [
                _job(row, row["_id"], row["revision"], silent=not row["complete"]) for row in update.segments.in_order()
            ]
            hidden = [_job(row, row["_id"], None) for row in await update.store.segments.hidden()]
            await self._save(self._token, jobs + hidden + other_jobs)
        elif job["revision"] is None:
            await self._remove_members(update.store, job)
        elif row is None or row["revision"] != job["revision"]:
            await self._save(self._token, other_jobs)  # deleted, or saved again with a job of its own
        else:
            await self._scan(update, job)

    async def _scan(self, update: MembershipUpdate, job: Document) -> None:
        job = {**job, "until": job["until"] or lowest_id(Prefix.CONTACT, update.now)}
        batch, done = await _candidates(update, job)
        update.reported = lambda *_: not job["silent"]
        await update.evaluate(dict.fromkeys((id_ for id_, _ in batch), frozenset({job["segment_id"]})))
        other_jobs = self._pending[1:]

        async def write(session: Session) -> None:
            await update.persist(session)
            if done:
                await update.store.segments.complete(job["segment_id"], job["revision"], session)

        await self._save(self._token, other_jobs if done else [{**job, "after": batch[-1][0]}, *other_jobs], write)

    async def _remove_members(self, store: WorkspaceStore, job: Document) -> None:
        rows = await store.members.some(job["segment_id"], _AT_ONCE)

        async def write(session: Session) -> None:
            await store.members.remove([row["_id"] for row in rows], session)
            if not rows:
                await store.segments.remove(job["segment_id"], session)

        await self._save(self._token, self._pending if rows else self._pending[1:], write)

    async def _write(self, token: str | None, pending: list[Document], updates: Sequence[MembershipUpdate]) -> None:
        async def write(session: Session) -> None:
            for update in updates:
                await update.persist(session)

        await self._save(token, pending, write)

    async def _open_update(self, workspace_id: str) -> MembershipUpdate:
        store, now = self._store.open(workspace_id), self._clock()
        segments = SegmentGraph(await store.segments.all())
        is_reported = _is_reported(segments, self._pending)
        return MembershipUpdate(
            store, segments, now, lambda: new_change_id(self._minter, now), self._triggers, is_reported
        )


def _touches(batch: Sequence[Insert]) -> dict[str, dict[str, ContactTouch]]:
    by_workspace: dict[str, dict[str, ContactTouch]] = defaultdict(dict)
    for insert in batch:
        if (kind := kind_of_insert(insert)) is not None:
            add_touch(by_workspace[insert.document["workspace_id"]], kind, insert.document)
    return {workspace_id: touches for workspace_id, touches in by_workspace.items() if touches}


def _jobs_of(batch: Sequence[Insert]) -> list[Document]:
    changes = [(kind_of_insert(insert), insert.document) for insert in batch]
    return [
        _job(change, segment["id"], segment["revision"] if kind is ChangeKind.SEGMENT_SAVED else None)
        for kind, change in changes
        if kind in (ChangeKind.SEGMENT_SAVED, ChangeKind.SEGMENT_DELETED)
        for segment in change["segments"]
    ]


def _job(row: Mapping[str, object], segment_id: str, revision: int | None, *, silent: bool = True) -> Document:
    """Without a revision the job removes all members. `silent`: publish no changes."""
    return {
        "workspace_id": row["workspace_id"],
        "segment_id": segment_id,
        "revision": revision,
        "after": "",
        "until": None,
        "silent": silent,
    }


def _is_reported(segments: SegmentGraph, pending: Sequence[Document]) -> Callable[[str, str], bool]:
    """Whether to publish a change (segment id, contact id). While a segment is filled, publish only contacts that the
    scan has passed or that are newer than it."""
    jobs = {(job["segment_id"], job.get("revision")): job for job in reversed(pending)}

    def is_reported(segment_id: str, contact_id: str) -> bool:
        row = segments.rows[segment_id]
        job = jobs.get((segment_id, row["revision"]))
        if row["complete"] or job is None:
            return bool(row["complete"])
        is_created_later = job["until"] is not None and contact_id >= job["until"]
        return not job["silent"] or is_created_later or contact_id <= job["after"]

    return is_reported


async def _candidates(update: MembershipUpdate, job: Document) -> tuple[list[Candidate], bool]:
    condition, store = update.segments.condition(job["segment_id"]), update.store
    path = access_path(condition)
    if path is not None:
        path = replace(path, segments=path.segments | {job["segment_id"]})
    events = any(event.counts_events for event in condition.events())
    size = _AT_ONCE_WITH_EVENTS if events else _AT_ONCE
    scan = IdScan(
        store.contacts,
        store.summaries,
        store.members,
        path,
        TimeRange(),
        update.now,
        oldest_first=True,
        lower=job["after"] or None,
        upper=None,
    )
    batch = await scan.next(size)
    return batch, scan.done or batch[-1][0] >= job["until"]
