"""Contacts as MongoDB keeps them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, UpdateMany, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import ContactDraft, ContactRef, ContactRole, IdentityKind, all_ids, identity
from gateway.domain.contacts.merging import MergeResult
from gateway.domain.filters.access_paths import index_terms
from gateway.store.driver import Document, Operation, Session, TransientError
from gateway.store.repositories import Repository

_ROWS_AT_ONCE = 1000
_VISITS_AT_ONCE = 200
_MANY = 20
# What events may name a contact by: its id, or also those of the contacts that it took over.
IDS_OF_CONTACT = {"$ifNull": ["$contact_ids", "$_id"]}


class Contacts(Repository):
    """The contacts of one workspace."""

    COLLECTION: ClassVar[str] = "contacts"
    OWNER: ClassVar[str | None] = "_id"
    SHOWN_BY: ClassVar[tuple[str, ...]] = ("role",)
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("identities", ASCENDING)], unique=True, name="identity"),
        IndexModel([("workspace_id", ASCENDING), ("email_lower", ASCENDING)], name="email"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="created"),
        IndexModel([("workspace_id", ASCENDING), ("terms", ASCENDING), ("_id", ASCENDING)], name="terms"),
        *(
            IndexModel([("workspace_id", ASCENDING), (field, ASCENDING), ("_id", ASCENDING)], name=f"by_{field}")
            for field in ("updated_at", "last_seen_at", "name_lower")
        ),
    )

    async def candidates_for(self, refs: Iterable[ContactRef], *, may_become_users: bool = False) -> list[Document]:
        """Every contact that has a key of those references, or shares an e-mail with them.

        `may_become_users`: also those who share an e-mail with a contact found, which as a USER must be the only one.
        """
        keys = [key for ref in refs for key in ref.keys()]  # noqa: SIM118 - not a mapping
        found = await self.with_identities(sorted({identity(kind, value) for kind, value in keys}))
        emails = {value.lower() for kind, value in keys if kind is IdentityKind.EMAIL}
        if may_become_users or any(kind is IdentityKind.EXTERNAL for kind, _ in keys):
            emails |= {row["email_lower"] for row in found.values() if row.get("email_lower") and row["role"] != "USER"}
        return list((found | await self._with_emails(sorted(emails))).values())

    async def with_identities(
        self, identities: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Document]:
        """The contacts with any of those identities, by id; of them those fields, if any are named."""
        if not identities:
            return {}
        rows = await self._find({"identities": {"$in": list(identities)}}, fields=fields)
        return {row["_id"]: row for row in rows}

    async def of_ids(self, ids: Sequence[str], fields: Sequence[str] | None = None) -> dict[str, Document]:
        """The contacts of those ids, by id: of one that was merged the contact that took it over, of one of another
        workspace the contact that a file brought from there. Those fields at least, if any are named."""
        found = await self.by_ids(ids, fields=fields)
        missing = [identity(IdentityKind.ID, id_) for id_ in dict.fromkeys(ids) if id_ not in found]
        merged = await self.with_identities(missing)
        asked = set(ids)
        return found | {id_: row for row in merged.values() for id_ in all_ids(row) if id_ in asked}

    async def with_email(self, email: str) -> list[Document]:
        """The contacts with that e-mail, whatever its case: at most two, which is too many to mean one."""
        if self._token is None:
            return await self._find({"email_lower": email.lower()}, limit=2)
        own = (await self.by_ids([str(self._token.contact_id)])).values()
        return [row for row in own if row.get("email_lower") == email.lower()]

    async def page(self, asked: Page, now: datetime, fields: Sequence[str] | None = None) -> list[Document]:
        """A page of all contacts, the newest first; of them those fields, if any are named."""
        return await self._page_by_id([{}], Prefix.CONTACT, asked, TimeRange(), now, fields=fields)

    async def created(self, asked: Page, times: TimeRange, now: datetime, term: str | None = None) -> list[Document]:
        """A page of the contacts that were created in that time, the newest first; of those with that term if one is given."""
        filter_ = {} if term is None else {"terms": term}
        return await self._page_by_id([filter_], Prefix.CONTACT, asked, times, now)

    async def ordered(self, filter_: Document, sort: Mapping[str, int], limit: int) -> list[Document]:
        """The first contacts of a part of another order; `filter_`: one operator at most, behind equalities of its index."""
        return await self._find(filter_, sort=sort, limit=limit)

    async def count(self, most: int) -> int:
        """How many contacts there are, counted up to that many."""
        return await self._database.count(self.COLLECTION, {"workspace_id": self._workspace_id}, most)

    async def set_terms(self) -> None:
        """Give every contact what it is found by: those that were stored before it was kept lack it."""
        after = ""
        while rows := await self._find({"_id": {"$gt": after}}, sort={"_id": 1}, limit=_ROWS_AT_ONCE):
            guards = [
                {"_id": row["_id"], "workspace_id": self._workspace_id, "version": row["version"]} for row in rows
            ]
            changes = [{"$set": _found_by(row)} for row in rows]
            await self._database.bulk(self.COLLECTION, [UpdateOne(*pair) for pair in zip(guards, changes, strict=True)])
            after = rows[-1]["_id"]

    async def save(
        self,
        drafts: Iterable[ContactDraft],
        session: Session,
        *,
        seen: dict[str, datetime] | None = None,
        unchanged_since_read: bool = False,
    ) -> None:
        """Insert the new ones; of the others set what changed. TransientError where one is no longer there.

        Every save writes the document, so that two transactions on one contact never pass each other unseen; with
        `unchanged_since_read` no other may have been stored since the contact was read.
        """
        seen, new, operations, visits = seen or {}, [], [], defaultdict[datetime | None, list[str]](list)
        for draft in drafts:
            at = seen.get(draft.id)
            if draft.stored is not None and not unchanged_since_read and not draft.is_changed():
                visits[at].append(draft.id)
                continue
            draft.document.pop("name_lower", None)
            draft.document.update(_found_by(draft.document))
            if draft.stored is None:
                new.append({**draft.document, "version": 1} | ({} if at is None else {"last_seen_at": at}))
            else:
                operations.append(self._update(draft, draft.stored["version"], at))
        expected = len(operations) + sum(map(len, visits.values()))
        await self._database.insert(self.COLLECTION, new, session)
        matched = 0
        for at, ids in visits.items():
            if len(ids) < _MANY:
                operations += [self._visit(id_, at) for id_ in ids]
                continue
            for start in range(0, len(ids), _VISITS_AT_ONCE):
                some = self._visit({"$in": ids[start : start + _VISITS_AT_ONCE]}, at)
                matched += await self._database.bulk(self.COLLECTION, [some], session)
        matched += await self._database.bulk(self.COLLECTION, operations, session)
        if matched != expected:
            raise TransientError("a contact was deleted or merged meanwhile")

    async def remove(self, contact: Document, session: Session) -> None:
        """Delete the contact; TransientError where it changed since it was read."""
        guard = {"_id": contact["_id"], "workspace_id": self._workspace_id, "version": contact["version"]}
        if await self._database.delete(self.COLLECTION, guard, session) != 1:
            raise TransientError("a contact that is to be deleted or merged changed meanwhile")

    async def take_over(self, merged: MergeResult, session: Session) -> None:
        """Delete the contact that goes and save its survivor; TransientError where either changed since it was read."""
        await self.remove(merged.gone, session)
        await self.save([merged.survivor], session, unchanged_since_read=True)

    def _shows(self, row: Document, token: Principal) -> bool:
        hidden = token.anonymous and row["role"] == ContactRole.USER
        return super()._shows(row, token) and not hidden

    def _update(self, draft: ContactDraft, version: int, seen: datetime | None) -> Operation:
        changed, update = draft.is_changed(), _visited(seen)
        if kept := {name: value for name, value in changed.items() if value is not None}:
            update["$set"] = kept
        if cleared := [name for name, value in changed.items() if value is None]:
            update["$unset"] = dict.fromkeys(cleared, "")
        return UpdateOne({"_id": draft.id, "workspace_id": self._workspace_id, "version": version}, update)

    def _visit(self, id_: Any, seen: datetime | None) -> Operation:
        """Changes nothing of the contacts with that id but when they were seen last."""
        one_or_many = UpdateMany if isinstance(id_, dict) else UpdateOne
        return one_or_many({"_id": id_, "workspace_id": self._workspace_id}, _visited(seen))

    async def _with_emails(self, emails: Sequence[str]) -> dict[str, Document]:
        if not emails:
            return {}
        return {row["_id"]: row for row in await self._find({"email_lower": {"$in": list(emails)}})}


def _visited(seen: datetime | None) -> Document:
    return {"$inc": {"version": 1}} | ({} if seen is None else {"$max": {"last_seen_at": seen}})


def _found_by(contact: Mapping[str, Any]) -> Document:
    """What filters and sorts find a contact by."""
    name = contact.get("name")
    return {"terms": index_terms(contact)} | ({"name_lower": name.lower()} if name else {})
