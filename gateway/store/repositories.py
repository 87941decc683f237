"""What repositories share: one workspace, keyset pages, and one read for the children of many parents."""

import asyncio
import itertools
import operator
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, cast

from pymongo import IndexModel

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.core.time_ranges import TimeRange
from gateway.store.driver import Database, Document, Filter, NaiveUtcProjection, Session
from gateway.store.range_scan import widening_windows

D = TypeVar("D", bound=Mapping[str, object])  # the type of the collection's documents
_PARENT = "_parent"  # added to the rows of a lookup; no document has this field


class Repository(Generic[D]):
    """One collection in one workspace: every filter and every document contains the workspace.

    Opened for a contact token, it returns only that contact's rows. Rows that are read with `fields` have those alone."""

    COLLECTION: ClassVar[str]
    INDEXES: ClassVar[tuple[IndexModel, ...]] = ()
    OWNER: ClassVar[str | None] = None  # the field with the contact that owns the row; None: tokens see nothing
    SHOWN_BY: ClassVar[tuple[str, ...]] = ()  # other fields that `_shows` reads

    def __init__(self, database: Database, workspace_id: str, token: Principal | None = None) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self._token = token

    async def by_ids(
        self, ids: Sequence[str], session: Session = None, fields: Sequence[str] | None = None
    ) -> dict[str, D]:
        """The documents with those ids, by id. `fields` limits what is read."""
        if not ids:
            return {}
        rows = await self._find({"_id": _one_or_in(ids)}, session=session, fields=fields)
        return {str(row["_id"]): row for row in rows}

    async def get(self, id_: str, session: Session = None, fields: Sequence[str] | None = None) -> D | None:
        """The document with that id. `fields` limits what is read."""
        return (await self.by_ids([id_], session, fields)).get(id_)

    async def _find(
        self,
        filter_: Filter,
        *,
        sort: Mapping[str, int] | None = None,
        limit: int = 0,
        fields: Sequence[str] | None = None,
        projection: Sequence[str] | None = None,
        session: Session = None,
    ) -> list[D]:
        if fields is not None:
            shown_by = () if self._token is None or self.OWNER is None else (self.OWNER, *self.SHOWN_BY)
            projection = with_fields(fields, "_id", *shown_by)
        # The workspace comes last: without an index for the whole filter, the embedded server uses the first field's.
        rows = self._typed(
            await self._database.find(
                self.COLLECTION,
                {**filter_, "workspace_id": self._workspace_id},
                sort=sort,
                limit=limit,
                projection=projection,
                session=session,
            )
        )
        return rows if self._token is None else [row for row in rows if self._shows(row, self._token)]

    def _typed(self, rows: list[Document]) -> list[D]:
        # The only place where documents of the driver get their type.
        return cast(list[D], rows)

    def _shows(self, row: D, token: Principal) -> bool:
        return self.OWNER is not None and token.owns(cast(str | None, row.get(self.OWNER)))

    def _parents_of_token(self, parents: Sequence[str], token: Principal) -> Sequence[str]:
        """The parents whose children this token may see."""
        return [parent for parent in parents if parent == token.contact_id]

    async def _page_by_id(
        self,
        filters: Sequence[Filter],
        prefix: Prefix,
        page: Page,
        times: TimeRange,
        now: datetime,
        field: str = "_id",
        fields: Sequence[str] | None = None,
    ) -> list[D]:
        """The page's rows that match any filter, in its direction, read in windows that widen until the page is full.

        Each filter is an equality with an index that ends in `field`; no row may match two. `fields` are read beside
        `_id` and `field`."""
        fields = None if fields is None else with_fields(fields, field)
        rows: list[D] = []
        direction = 1 if page.backward else -1
        for start, end in widening_windows(prefix, *_bounds(prefix, page, times), page.backward, now):
            if len(rows) >= page.limit:
                break
            bounds = {field: {"$gte": start, "$lt": end}}
            limit = page.limit - len(rows)
            row_lists = await asyncio.gather(
                *(
                    self._find({**filter_, **bounds}, sort={field: direction}, limit=limit, fields=fields)
                    for filter_ in filters
                )
            )
            rows += sorted(itertools.chain(*row_lists), key=operator.itemgetter(field), reverse=not page.backward)
        return rows[: page.limit]

    async def id_range(
        self,
        low: str,
        high: str,
        limit: int,
        *,
        filters: Sequence[Filter] = ({},),
        field: str = "_id",
        fields: Sequence[str] | None = None,
    ) -> list[D]:
        """The rows that match any filter with `low` <= id < `high`, lowest first. Filters as for a page; `fields`
        limits what is read."""
        bounds = {field: {"$gte": low, "$lt": high}}
        row_lists = await asyncio.gather(
            *(self._find({**filter_, **bounds}, sort={field: 1}, limit=limit, fields=fields) for filter_ in filters)
        )
        return sorted(itertools.chain(*row_lists), key=operator.itemgetter(field))[:limit]

    async def _pages_of_children(
        self,
        parents: Sequence[str],
        match: Filter,
        sort: Mapping[str, int],
        limit: int,
        *,
        foreign: str,
        parent_collection: str,
        fields: Sequence[str] | None = None,
        parent_ids: str | Filter = "$_id",
        known: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, list[D]]:
        """The first rows of each parent, in one read: an indexed, limited lookup per parent inside the server. A single
        parent gets a plain read, since the embedded servers scan the whole collection for a lookup.

        `parent_ids`: an expression for the id or ids that rows can have for their parent; `known`: those ids by parent,
        if the caller has them. `fields` are read beside the sort fields."""
        if self._token is not None:
            parents = self._parents_of_token(parents, self._token)
        known = {id_: [id_] for id_ in parents} if known is None and parent_ids == "$_id" else known
        if len(parents) == 1 and known is not None:
            filter_ = {foreign: _one_or_in(known[parents[0]]), **match, "workspace_id": self._workspace_id}
            projection = None if fields is None else with_fields(fields, "_id", *sort)
            children = await self._database.find(
                self.COLLECTION, filter_, sort=sort, limit=limit, projection=projection
            )
            return {parents[0]: self._typed(children)} if children else {}
        pipeline: list[Document] = [
            {"$match": {"workspace_id": self._workspace_id, **match}},
            {"$sort": dict(sort)},
            {"$limit": limit},
            *([] if fields is None else [{"$project": dict.fromkeys(["_id", *sort, *fields], 1)}]),
        ]
        children = await self._database.aggregate(
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
                {"$unwind": "$children"},  # directly after the lookup, so no array is built that could pass 16 MB
                # Rows carry their parent instead of an envelope: the reply takes half as long to decode.
                {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$children", {_PARENT: "$_id"}]}}},
            ],
            fields=fields,
        )
        rows: dict[str, list[Document]] = {}
        for row in children:
            rows.setdefault(row[_PARENT], []).append(row)
        return {parent: self._typed(own_rows) for parent, own_rows in rows.items()}


def id_bounds(prefix: Prefix, page: Page, times: TimeRange) -> dict[str, str]:
    """The condition on `_id` for a page of that time range."""
    low, high = _bounds(prefix, page, times)
    return {"$gte": low, "$lt": high}


def _bounds(prefix: Prefix, page: Page, times: TimeRange) -> tuple[str, str]:
    """The lowest id (inclusive) and the highest (exclusive). Pages go from new to old: `after` is the upper."""
    low, high = lowest_id(prefix, times.start), lowest_id(prefix, times.end)
    if page.after is not None:
        high = min(high, page.after)
    if page.before is not None:
        low = max(low, page.before + "0")  # no id sorts between the two
    return low, high


def with_fields(fields: Sequence[str], *more: str) -> Sequence[str]:
    unique_fields = dict.fromkeys([*more, *fields])
    return NaiveUtcProjection(unique_fields) if isinstance(fields, NaiveUtcProjection) else list(unique_fields)


def _one_or_in(values: Sequence[str]) -> str | dict[str, list[str]]:
    return values[0] if len(values) == 1 else {"$in": list(values)}
