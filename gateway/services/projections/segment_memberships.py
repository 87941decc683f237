"""Who is in which segment: one process reads the stream, judges the contacts that it names, and saves who entered and who
left with its position in one transaction, so that each entering is told once, whoever reads.

What time alone changes is found by when it is due; what a saved segment holds, by a walk through those who can be in it.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix, lowest_id
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import Document
from gateway.domain.filters.access_paths import access_path
from gateway.domain.filters.segments import ContactTouch, SegmentGraph, touch_event, touch_of_change
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
_AT_ONCE_WITH_EVENTS = 200  # a step must not keep what happens meanwhile waiting
_DUE_AT_ONCE = 500
_SWEEP_SECONDS = 1.0
_WORK_SECONDS = 0.25


class SegmentMembershipProjection(ProjectionConsumer):
    """Keeps the members of all segments; `run` in every process: one of them has the lease and works."""

    NAME = "segments"
    WATCHED = (Events.COLLECTION, ChangeLog.COLLECTION)

    def __init__(self, store: Store, clock: Clock, minter: Minter, firings: TriggerService) -> None:
        super().__init__(store, clock, minter)
        self._firings = firings
        self._swept_at = 0.0

    async def _rebuild_all(self, since: Sequence[Insert]) -> list[Document]:
        """Every segment there is is looked at anew; who moved meanwhile is told then."""
        workspace_ids = await workspaces_with_segments(self._store.database)
        return [{"workspace_id": id_, "segment_id": None} for id_ in workspace_ids] + _jobs_of(since)

    async def _is_needed(self) -> bool:
        """Whether there is a segment: an open stream costs the database something."""
        return await any_segment(self._store.database)

    async def _step(self, inserts: InsertStream) -> None:
        if read := await self._next(inserts):
            await self._follow(read)
        if time.monotonic() >= self._swept_at + _SWEEP_SECONDS:
            await self._sweep()
        until = time.monotonic() + _WORK_SECONDS
        while self._pending and time.monotonic() < until:  # reading on waits for a moment where nothing happens
            await self._run_jobs(self._pending[0])

    async def _follow(self, read: Sequence[Insert]) -> None:
        """Judge whom the stream names, by what it says of them."""
        found = []
        for workspace_id, touched in _touched(read).items():
            moves = await self._open_update(workspace_id)
            if moves.segments.rows:
                wanted = {id_: moves.segments.affected_by(touch) for id_, touch in touched.items()}
                imported = frozenset(id_ for id_, touch in touched.items() if touch.by_import)
                await moves.evaluate(wanted, imported=imported)
                found.append(moves)
        await self._write(read[-1].token, self._pending + _jobs_of(read), found)

    async def _sweep(self) -> None:
        """Judge those whom time alone may have moved."""
        due = await reviews_due(self._store.database, self._clock(), _DUE_AT_ONCE)
        by_workspace: dict[str, list[str]] = defaultdict(list)
        for row in due:
            by_workspace[row["workspace_id"]].append(row["_id"])
        found = []
        for workspace_id, contact_ids in by_workspace.items():
            moves = await self._open_update(workspace_id)
            await moves.evaluate(dict.fromkeys(contact_ids, moves.segments.time_dependent()), review=True)
            found.append(moves)
        if found:
            await self._write(self._token, self._pending, found)
        if len(due) < _DUE_AT_ONCE:
            self._swept_at = time.monotonic()

    async def _run_jobs(self, job: Document) -> None:
        """A step of what a saved or deleted segment leaves to do."""
        others = self._pending[1:]
        moves = await self._open_update(job["workspace_id"])
        row = moves.segments.rows.get(job["segment_id"] or "")
        if job["segment_id"] is None:
            jobs = [
                _job(row, row["_id"], row["revision"], silent=not row["complete"]) for row in moves.segments.in_order()
            ]
            hidden = [_job(row, row["_id"], None) for row in await moves.store.segments.hidden()]
            await self._save(self._token, jobs + hidden + others)
        elif job["revision"] is None:
            await self._remove_members(moves.store, job)
        elif row is None or row["revision"] != job["revision"]:
            await self._save(self._token, others)  # it was saved again, and has another job, or deleted
        else:
            await self._scan(moves, job)

    async def _scan(self, moves: MembershipUpdate, job: Document) -> None:
        """Judge the next of those who can be in a segment or were, for that segment alone."""
        job = {**job, "until": job["until"] or lowest_id(Prefix.CONTACT, moves.now)}
        batch, done = await _candidates(moves, job)
        moves.reported = lambda *_: not job["silent"]
        await moves.evaluate(dict.fromkeys((id_ for id_, _ in batch), frozenset({job["segment_id"]})))
        others = self._pending[1:]

        async def write(session: Session) -> None:
            await moves.persist(session)
            if done:
                await moves.store.segments.complete(job["segment_id"], job["revision"], session)

        await self._save(self._token, others if done else [{**job, "after": batch[-1][0]}, *others], write)

    async def _remove_members(self, store: WorkspaceStore, job: Document) -> None:
        rows = await store.members.some(job["segment_id"], _AT_ONCE)

        async def write(session: Session) -> None:
            await store.members.remove([row["_id"] for row in rows], session)
            if not rows:
                await store.segments.remove(job["segment_id"], session)

        await self._save(self._token, self._pending if rows else self._pending[1:], write)

    async def _write(self, token: str | None, pending: list[Document], found: Sequence[MembershipUpdate]) -> None:
        async def write(session: Session) -> None:
            for moves in found:
                await moves.persist(session)

        await self._save(token, pending, write)

    async def _open_update(self, workspace_id: str) -> MembershipUpdate:
        store, now = self._store.open(workspace_id), self._clock()
        segments = SegmentGraph(await store.segments.all())
        told = _is_reported(segments, self._pending)
        return MembershipUpdate(
            store, segments, now, lambda: self._minter.mint(Prefix.CHANGE, now), self._firings, told
        )


def _touched(read: Sequence[Insert]) -> dict[str, dict[str, ContactTouch]]:
    """What the stream tells of contacts, by workspace and contact."""
    found: dict[str, dict[str, ContactTouch]] = defaultdict(dict)
    for insert in read:
        add = touch_event if insert.collection == Events.COLLECTION else touch_of_change
        add(found[insert.document["workspace_id"]], insert.document)
    return {workspace_id: touched for workspace_id, touched in found.items() if touched}


def _jobs_of(read: Sequence[Insert]) -> list[Document]:
    """What the stream tells of segments that were saved or deleted."""
    lines = [one.document for one in read if one.collection == ChangeLog.COLLECTION]
    return [
        _job(line, one["id"], one["revision"] if line["kind"] == "SAVED" else None)
        for line in lines
        if line["subject"] == "segment"
        for one in line["segments"]
    ]


def _job(row: Document, segment_id: str, revision: int | None, *, silent: bool = True) -> Document:
    """To find the members of that revision of a segment, and to tell or not who moves; without a revision to forget them."""
    return {
        "workspace_id": row["workspace_id"],
        "segment_id": segment_id,
        "revision": revision,
        "after": "",
        "until": None,
        "silent": silent,
    }


def _is_reported(segments: SegmentGraph, pending: Sequence[Document]) -> Callable[[str, str], bool]:
    """Whether a move of a contact is told: while a saved segment's members are looked for, it is of those alone whom the
    search has passed, and of those who came after it began."""
    jobs = {(job["segment_id"], job.get("revision")): job for job in reversed(pending)}

    def told(segment_id: str, contact_id: str) -> bool:
        row = segments.rows[segment_id]
        job = jobs.get((segment_id, row["revision"]))
        if row["complete"] or job is None:
            return bool(row["complete"])
        came_later = job["until"] is not None and contact_id >= job["until"]
        return not job["silent"] or came_later or contact_id <= job["after"]

    return told


async def _candidates(moves: MembershipUpdate, job: Document) -> tuple[list[Candidate], bool]:
    """The next of those who can be in a segment, or are, and whether they are the last."""
    condition, store = moves.segments.condition(job["segment_id"]), moves.store
    wide = access_path(condition)
    if wide is not None:
        wide = replace(wide, segments=wide.segments | {job["segment_id"]})
    events = any(event.counts_events for event in condition.events())
    size = _AT_ONCE_WITH_EVENTS if events else _AT_ONCE
    walk = IdScan(
        store.contacts,
        store.summaries,
        store.members,
        wide,
        TimeRange(),
        moves.now,
        oldest_first=True,
        lower=job["after"] or None,
        upper=None,
    )
    batch = await walk.next(size)
    return batch, walk.done or batch[-1][0] >= job["until"]
