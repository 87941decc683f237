"""The contacts collection."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel, UpdateMany, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import (
    ContactDraft,
    ContactRef,
    ContactRole,
    IdentityKind,
    all_ids,
    by_name,
    identity,
)
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import MergeResult
from gateway.domain.filters.access_paths import index_terms
from gateway.store.driver import Document, Filter, Operation, Session, TransientError
from gateway.store.repositories import Repository

_ROWS_AT_ONCE = 1000
_TOUCHES_AT_ONCE = 200
_SHARED_UPDATE_FROM = 20
# The ids that events of a contact can have: its own, and those of the contacts merged into it.
IDS_OF_CONTACT = {"$ifNull": ["$contact_ids", "$_id"]}


class Contacts(Repository[ContactDocument]):
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

    async def candidates_for(
        self, refs: Iterable[ContactRef], *, may_become_users: bool = False
    ) -> list[ContactDocument]:
        """Every contact that has a key of those references or shares an e-mail with one.

        `may_become_users`: also contacts that share an e-mail with a match. A USER's e-mail must be unique."""
        keys = [key for ref in refs for key in ref.keys()]  # noqa: SIM118 - not a mapping
        contacts = await self.with_identities(sorted({identity(kind, value) for kind, value in keys}))
        emails = {value.lower() for kind, value in keys if kind is IdentityKind.EMAIL}
        if may_become_users or any(kind is IdentityKind.EXTERNAL for kind, _ in keys):
            emails |= {
                row["email_lower"] for row in contacts.values() if row.get("email_lower") and row["role"] != "USER"
            }
        return list((contacts | await self._with_emails(sorted(emails))).values())

    async def with_identities(
        self, identities: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, ContactDocument]:
        """The contacts with any of those identities, by id. `fields` limits what is read."""
        if not identities:
            return {}
        rows = await self._find({"identities": {"$in": list(identities)}}, fields=fields)
        return {row["_id"]: row for row in rows}

    async def of_ids(self, ids: Sequence[str], fields: Sequence[str] | None = None) -> dict[str, ContactDocument]:
        """The contacts of those ids, by the requested id. A merged id gives the survivor; an id of another workspace
        gives the contact that was imported from it. `fields` limits what is read."""
        contacts = await self.by_ids(ids, fields=fields)
        missing = [identity(IdentityKind.ID, id_) for id_ in dict.fromkeys(ids) if id_ not in contacts]
        merged = await self.with_identities(missing)
        requested = set(ids)
        return contacts | {id_: row for row in merged.values() for id_ in all_ids(row) if id_ in requested}

    async def of_id(self, id_: str, fields: Sequence[str] | None = None) -> ContactDocument | None:
        """The contact of that id, as `of_ids` finds it."""
        return (await self.of_ids([id_], fields)).get(id_)

    async def with_email(self, email: str) -> list[ContactDocument]:
        """The contacts with that e-mail, ignoring case: at most two, since two are already ambiguous."""
        if self._token is None:
            return await self._find({"email_lower": email.lower()}, limit=2)
        contacts = (await self.by_ids([str(self._token.contact_id)])).values()
        return [row for row in contacts if row.get("email_lower") == email.lower()]

    async def page(self, page: Page, now: datetime, fields: Sequence[str] | None = None) -> list[ContactDocument]:
        """A page of all contacts, newest first. `fields` limits what is read."""
        return await self._page_by_id([{}], Prefix.CONTACT, page, TimeRange(), now, fields=fields)

    async def created(
        self, page: Page, times: TimeRange, now: datetime, term: str | None = None
    ) -> list[ContactDocument]:
        """A page of the contacts created in that time (and with that index term), newest first."""
        filter_ = {} if term is None else {"terms": term}
        return await self._page_by_id([filter_], Prefix.CONTACT, page, times, now)

    async def ordered(self, filter_: Filter, sort: Mapping[str, int], limit: int) -> list[ContactDocument]:
        """The first contacts in another order. `filter_`: index equalities and at most one range."""
        return await self._find(filter_, sort=sort, limit=limit)

    async def count(self, most: int) -> int:
        return await self._database.count(self.COLLECTION, {"workspace_id": self._workspace_id}, most)

    async def set_terms(self) -> None:
        """Set every contact's index fields. One that changes meanwhile is skipped: its own save sets them."""
        after = ""
        while rows := await self._find({"_id": {"$gt": after}}, sort={"_id": 1}, limit=_ROWS_AT_ONCE):
            guards = [
                {"_id": row["_id"], "workspace_id": self._workspace_id, "version": row["version"]} for row in rows
            ]
            changes = [{"$set": _index_fields(row)} for row in rows]
            await self._database.bulk(self.COLLECTION, [UpdateOne(*pair) for pair in zip(guards, changes, strict=True)])
            after = rows[-1]["_id"]

    async def save(
        self,
        drafts: Iterable[ContactDraft],
        session: Session,
        *,
        seen: Mapping[str, datetime] | None = None,
        unchanged_since_read: bool = False,
    ) -> None:
        """Insert new contacts and update changed ones. TransientError if one was deleted or merged meanwhile.

        Every save increments the version, so two transactions on one contact always conflict. `seen`: last_seen_at by
        contact id. `unchanged_since_read`: also fail if a contact was saved since it was read."""
        seen, new, operations, touches = seen or {}, [], [], defaultdict[datetime | None, list[str]](list)
        for draft in drafts:
            at = seen.get(draft.id)
            if draft.stored is not None and not unchanged_since_read and not draft.changed_fields():
                touches[at].append(draft.id)
                continue
            draft.document.pop("name_lower", None)
            by_name(draft.document).update(_index_fields(draft.document))
            if draft.stored is None:
                new.append({**draft.document, "version": 1} | ({} if at is None else {"last_seen_at": at}))
            else:
                operations.append(self._update(draft, draft.stored["version"], at))
        expected = len(operations) + sum(map(len, touches.values()))
        await self._database.insert(self.COLLECTION, new, session)
        matched = 0
        for at, ids in touches.items():
            if len(ids) < _SHARED_UPDATE_FROM:
                operations += [self._touch(id_, at) for id_ in ids]
                continue
            for start in range(0, len(ids), _TOUCHES_AT_ONCE):
                touch = self._touch({"$in": ids[start : start + _TOUCHES_AT_ONCE]}, at)
                matched += await self._database.bulk(self.COLLECTION, [touch], session)
        matched += await self._database.bulk(self.COLLECTION, operations, session)
        if matched != expected:
            raise TransientError("a contact was deleted or merged meanwhile")

    async def remove(self, contact: ContactDocument, session: Session) -> None:
        """Delete the contact; TransientError if it changed since it was read."""
        guard = {"_id": contact["_id"], "workspace_id": self._workspace_id, "version": contact["version"]}
        if await self._database.delete(self.COLLECTION, guard, session) != 1:
            raise TransientError("a contact that is to be deleted or merged changed meanwhile")

    async def take_over(self, merged: MergeResult, session: Session) -> None:
        """Delete the merged contact and save the survivor; TransientError if either changed since it was read."""
        await self.remove(merged.gone, session)
        await self.save([merged.survivor], session, unchanged_since_read=True)

    def _shows(self, row: ContactDocument, token: Principal) -> bool:
        hidden = token.anonymous and row["role"] == ContactRole.USER
        return super()._shows(row, token) and not hidden

    def _update(self, draft: ContactDraft, version: int, seen: datetime | None) -> Operation:
        changed, update = draft.changed_fields(), _touch_update(seen)
        if set_fields := {name: value for name, value in changed.items() if value is not None}:
            update["$set"] = set_fields
        if unset_fields := [name for name, value in changed.items() if value is None]:
            update["$unset"] = dict.fromkeys(unset_fields, "")
        return UpdateOne({"_id": draft.id, "workspace_id": self._workspace_id, "version": version}, update)

    def _touch(self, id_: str | Mapping[str, list[str]], seen: datetime | None) -> Operation:
        """Increment the version and update last_seen_at, nothing else."""
        operation = UpdateMany if isinstance(id_, dict) else UpdateOne
        return operation({"_id": id_, "workspace_id": self._workspace_id}, _touch_update(seen))

    async def _with_emails(self, emails: Sequence[str]) -> dict[str, ContactDocument]:
        if not emails:
            return {}
        return {row["_id"]: row for row in await self._find({"email_lower": {"$in": list(emails)}})}


def _touch_update(seen: datetime | None) -> Document:
    return {"$inc": {"version": 1}} | ({} if seen is None else {"$max": {"last_seen_at": seen}})


def _index_fields(contact: ContactDocument) -> Document:
    name = contact.get("name")
    return {"terms": index_terms(contact)} | ({"name_lower": name.lower()} if name else {})
