"""What every repository shares: one workspace, pages by keyset, one read for the children of many parents."""

import asyncio
import itertools
import operator
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pymongo import IndexModel

from gateway.core.ids import Prefix, id_time, lowest_id
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.core.time_ranges import TimeRange
from gateway.store.driver import Database, Document, NaiveUtcProjection, Session

# On MongoDB an indexed sort with a limit reads just the page, and the first window could be the only one. The embedded
# servers read all that a filter finds before they cut it off, so there a page looks at newest (or oldest) rows first.
_WINDOWS = (timedelta(minutes=1), timedelta(minutes=30), timedelta(hours=12), timedelta(days=12))


_PARENT = "_parent"  # of a row that a lookup found; no document has such a field


class Repository:
    """One collection, opened for one workspace: every filter and every document names it.

    Opened for a contact's token it finds that contact's rows alone, whatever is asked.
    """

    COLLECTION: ClassVar[str]
    INDEXES: ClassVar[tuple[IndexModel, ...]] = ()
    OWNER: ClassVar[str | None] = None  # the field that names the contact whose row it is; None: tokens find nothing
    SHOWN_BY: ClassVar[tuple[str, ...]] = ()  # what else decides on whether a token finds a row

    def __init__(self, database: Database, workspace_id: str, token: Principal | None = None) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self._token = token

    async def by_ids(
        self, ids: Sequence[str], session: Session = None, fields: Sequence[str] | None = None
    ) -> dict[str, Document]:
        """The documents with those ids, by id; of them those fields, if any are named."""
        if not ids:
            return {}
        return {row["_id"]: row for row in await self._find({"_id": _one_or_in(ids)}, session=session, fields=fields)}

    async def _find(
        self, filter_: Mapping[str, Any], *, fields: Sequence[str] | None = None, **options: Any
    ) -> list[Document]:
        if fields is not None:
            shown_by = () if self._token is None or self.OWNER is None else (self.OWNER, *self.SHOWN_BY)
            options["projection"] = with_fields(fields, "_id", *shown_by)
        # The workspace comes last: the embedded server, where no index fits the whole filter, takes the first field's.
        rows = await self._database.find(self.COLLECTION, {**filter_, "workspace_id": self._workspace_id}, **options)
        return rows if self._token is None else [row for row in rows if self._shows(row, self._token)]

    def _shows(self, row: Document, token: Principal) -> bool:
        return self.OWNER is not None and token.owns(row.get(self.OWNER))

    def _parents_of_token(self, parents: Sequence[str], token: Principal) -> Sequence[str]:
        """Those of the parents whose children a token may be shown."""
        return [parent for parent in parents if parent == token.contact_id]

    async def _page_by_id(
        self,
        filters: Sequence[Mapping[str, Any]],
        prefix: Prefix,
        asked: Page,
        times: TimeRange,
        now: datetime,
        field: str = "_id",
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """The page's rows in its direction, of any of the filters: read in windows that widen until it is full.

        Each filter is on equality, and with the ids' field behind it on an index; no row matches two of them. `fields`:
        all that is read of them beside their ids and that by which they are ordered.
        """
        fields = None if fields is None else with_fields(fields, field)
        rows: list[Document] = []
        direction = 1 if asked.backward else -1
        for start, end in _windows(prefix, *_bounds(prefix, asked, times), asked.backward, now):
            if len(rows) >= asked.limit:
                break
            bounds = {field: {"$gte": start, "$lt": end}}
            options: dict[str, Any] = {"sort": {field: direction}, "limit": asked.limit - len(rows), "fields": fields}
            found = await asyncio.gather(*(self._find({**filter_, **bounds}, **options) for filter_ in filters))
            rows += sorted(itertools.chain(*found), key=operator.itemgetter(field), reverse=not asked.backward)
        return rows[: asked.limit]

    async def id_range(
        self,
        low: str,
        high: str,
        limit: int,
        *,
        filters: Sequence[Mapping[str, Any]] = ({},),
        field: str = "_id",
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """The rows of any of the filters from one id to before another one, the lowest first, up to so many; of them
        those fields, if any are named. Each filter is on equality, as for a page."""
        bounds = {field: {"$gte": low, "$lt": high}}
        options: dict[str, Any] = {"sort": {field: 1}, "limit": limit, "fields": fields}
        found = await asyncio.gather(*(self._find({**filter_, **bounds}, **options) for filter_ in filters))
        return sorted(itertools.chain(*found), key=operator.itemgetter(field))[:limit]

    async def _pages_of_children(
        self,
        parents: Sequence[str],
        match: Mapping[str, Any],
        sort: Mapping[str, int],
        limit: int,
        *,
        foreign: str,
        parent_collection: str,
        fields: Sequence[str] | None = None,
        parent_ids: Any = "$_id",
        known: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, list[Document]]:
        """The first rows of each parent (of them those fields and what they are sorted by, if any are named), in one
        read: an indexed, limited lookup per parent inside the server; for a single parent a plain read, since the embedded
        servers look through the whole collection for a lookup.

        `parent_ids`: an expression for what rows may call their parent, one id or several; `known`: the same as ids, by
        parent, where they are known.
        """
        if self._token is not None:
            parents = self._parents_of_token(parents, self._token)
        known = {id_: [id_] for id_ in parents} if known is None and parent_ids == "$_id" else known
        if len(parents) == 1 and known is not None:
            filter_ = {foreign: _one_or_in(known[parents[0]]), **match, "workspace_id": self._workspace_id}
            options = {} if fields is None else {"projection": with_fields(fields, "_id", *sort)}
            only = await self._database.find(self.COLLECTION, filter_, sort=sort, limit=limit, **options)
            return {parents[0]: only} if only else {}
        pipeline: list[Document] = [
            {"$match": {"workspace_id": self._workspace_id, **match}},
            {"$sort": dict(sort)},
            {"$limit": limit},
            *([] if fields is None else [{"$project": dict.fromkeys(["_id", *sort, *fields], 1)}]),
        ]
        found = await self._database.aggregate(
            parent_collection,
            [
                {"$match": {"workspace_id": self._workspace_id, "_id": _one_or_in(parents)}},
                {"$project": {"_id": 1, "ids": parent_ids}},
                {
                    "$lookup": {
                        "from": self.COLLECTION,
                        "localField": "ids",
                        "foreignField": foreign,
                        "pipeline": pipeline,
                        "as": "children",
                    }
                },
                {"$unwind": "$children"},  # right behind the lookup no array is built, which could pass 16 MB
                # Each row names its parent, and has no envelope around it: the reply is half as long to read.
                {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$children", {_PARENT: "$_id"}]}}},
            ],
            fields=fields,
        )
        rows: dict[str, list[Document]] = {}
        for row in found:
            rows.setdefault(row[_PARENT], []).append(row)
        return rows


def id_bounds(prefix: Prefix, asked: Page, times: TimeRange) -> dict[str, str]:
    """The condition on `_id` of a page of that time range."""
    low, high = _bounds(prefix, asked, times)
    return {"$gte": low, "$lt": high}


def _bounds(prefix: Prefix, asked: Page, times: TimeRange) -> tuple[str, str]:
    """From the first id within to the first without; a page goes from new to old, so `after` is the upper one."""
    low, high = lowest_id(prefix, times.start), lowest_id(prefix, times.end)
    if asked.after is not None:
        high = min(high, asked.after)
    if asked.before is not None:
        low = max(low, asked.before + "0")  # no id lies between one and itself with a character more
    return low, high


def _windows(prefix: Prefix, low: str, high: str, oldest_first: bool, now: datetime) -> list[tuple[str, str]]:
    """The range from `low` to `high`, cut into few windows that widen from the end that is wanted first."""
    if low >= high:
        return []
    start, end = id_time(low), min(id_time(high), now)  # what lies ahead of now belongs to the newest window
    reached = [lowest_id(prefix, start + reach if oldest_first else end - reach) for reach in _WINDOWS]
    edges = sorted({low, high, *(edge for edge in reached if low < edge < high)})
    pairs = list(itertools.pairwise(edges))
    return pairs if oldest_first else pairs[::-1]


def with_fields(fields: Sequence[str], *more: str) -> Sequence[str]:
    """Those fields and more, each of them once."""
    every = dict.fromkeys([*more, *fields])
    return NaiveUtcProjection(every) if isinstance(fields, NaiveUtcProjection) else list(every)


def _one_or_in(values: Sequence[str]) -> Any:
    return values[0] if len(values) == 1 else {"$in": list(values)}
