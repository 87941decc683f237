"""Identity resolution: find contacts by their keys, or create them. It never merges contacts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from gateway.domain.contacts.contacts import (
    MAX_ANONYMOUS_IDS,
    PUBLIC_NAMES,
    ContactDraft,
    ContactRef,
    ContactRole,
    IdentityKind,
    by_name,
    identities_of,
    identity,
    lead_email,
    other_ids,
    raised_role,
)
from gateway.domain.contacts.documents import ContactDocument
from gateway.errors import ErrorCode, UserProblem

NewContact = Callable[[], ContactDocument]


class IdentityResolver:
    """The contacts that a group of references can match, with this transaction's changes."""

    def __init__(
        self,
        contacts: Iterable[ContactDocument],
        new_contact: NewContact,
        now: datetime,
        erased: frozenset[str] = frozenset(),
    ) -> None:
        """`erased`: identities of recently erased people, which are refused."""
        self._erased = erased
        self.new_contact = new_contact
        self._now = now
        self._by_identity: dict[str, ContactDraft] = {}
        self._by_email: dict[str, list[ContactDraft]] = {}
        self.drafts: dict[str, ContactDraft] = {}
        self._undo: list[tuple[ContactDraft, ContactDocument]] = []
        self.released: set[str] = set()  # identities that stored contacts lost in this transaction
        for document in contacts:
            self.register(ContactDraft(document.copy(), document))

    def resolve(self, ref: ContactRef) -> ContactDraft:
        """Find the contact by its strongest key, or create it. Free weaker keys are attached."""
        kind, value = ref.keys()[0]
        draft = self.find(kind, value) or self._create(kind, value)
        for weaker, weak_value in ref.keys()[1:]:
            self._attach(draft, weaker, weak_value)
        return draft

    def find(self, kind: IdentityKind, value: str) -> ContactDraft | None:
        """The contact with that key. UserProblem where several leads share an e-mail that no USER has."""
        draft = self._by_identity.get(identity(kind, value))
        if draft is not None or kind is not IdentityKind.EMAIL:
            return draft
        leads = self._by_email.get(value.lower(), [])
        if len(leads) > 1:
            raise UserProblem(
                ErrorCode.CONFLICT,
                f"Several leads share the e-mail '{value}', and no user has it: give id, externalId or anonymousId.",
                (PUBLIC_NAMES[kind],),
            )
        return leads[0] if leads else None

    def resolve_imported(
        self, ids: Sequence[str], keys: Iterable[tuple[IdentityKind, str]], role: str | None
    ) -> ContactDraft:
        """Find the contact of an imported row: by a foreign id, else by key, else a new draft (not registered).

        A lead matches by e-mail, and a USER matches a row of another role, only if no other import claimed it.
        """
        by_id = [self.find(IdentityKind.ID, id_) for id_ in ids]
        by_key = [self._with_key(*key, role) or self._lead_without_other_ids(*key) for key in keys]
        return next((draft for draft in (*by_id, *by_key) if draft is not None), None) or ContactDraft(
            self.new_contact(), None
        )

    def _with_key(self, kind: IdentityKind, value: str, role: str | None) -> ContactDraft | None:
        draft = self._by_identity.get(identity(kind, value))
        may_share = kind is IdentityKind.EMAIL and role not in (None, ContactRole.USER)
        return None if draft is not None and may_share and other_ids(draft.document) else draft

    def _lead_without_other_ids(self, kind: IdentityKind, value: str) -> ContactDraft | None:
        leads = self._by_email.get(value.lower(), []) if kind is IdentityKind.EMAIL else []
        unclaimed = [lead for lead in leads if not other_ids(lead.document)]
        return unclaimed[0] if len(unclaimed) == 1 else None

    def change(self, draft: ContactDraft) -> None:
        """Record the document before the caller changes it, for `rollback_on`."""
        self._undo.append((draft, draft.document.copy()))

    @contextmanager
    def rollback_on(self, *errors: type[Exception]) -> Iterator[None]:
        """On these errors, restore the registry and the documents passed to `change`."""
        self._undo.clear()
        by_identity, drafts, released = dict(self._by_identity), dict(self.drafts), set(self.released)
        by_email = {email: list(holders) for email, holders in self._by_email.items()}
        try:
            yield
        except errors:
            self._by_identity, self._by_email, self.drafts, self.released = by_identity, by_email, drafts, released
            for draft, document in self._undo:
                draft.document = document
            raise

    def set_keys(self, draft: ContactDraft, **keys: str | None) -> None:
        """Set the contact's keys. `claim_identities` then checks that they are free."""
        for kind in (IdentityKind.EXTERNAL, IdentityKind.EMAIL):
            if kind.value in keys:
                _set(draft.document, kind.value, keys[kind.value])
        if (anonymous := keys.get(IdentityKind.ANONYMOUS.value)) is not None:
            _add_anonymous(draft.document, anonymous)

    def claim_identities(self, draft: ContactDraft) -> None:
        """Register the contact's unique keys. UserProblem where another contact has one."""
        document = draft.document
        before, email_before = document["identities"], document.get("email_lower")
        _set(document, "email_lower", document["email"].lower() if document.get("email") else None)
        document["identities"] = identities_of(document)
        self._check_not_erased(draft)
        for text in document["identities"]:
            owner = self._by_identity.setdefault(text, draft)
            if owner is not draft:
                name = PUBLIC_NAMES.get(text.split(":", 1)[0], PUBLIC_NAMES[IdentityKind.EMAIL])
                raise UserProblem(
                    ErrorCode.CONFLICT,
                    f"Another contact has this {name}: leave it out, or use it to name that contact.",
                    (name,),
                )
        self._release(draft, set(before) - set(document["identities"]), email_before)

    def _release(self, draft: ContactDraft, texts: Iterable[str], email: str | None) -> None:
        for text in texts:
            if self._by_identity.get(text) is draft:
                del self._by_identity[text]
                self.released.add(text)
        if email is not None and email != draft.document.get("email_lower") and draft in self._by_email.get(email, []):
            self._by_email[email].remove(draft)

    def _check_not_erased(self, draft: ContactDraft) -> None:
        """Check added keys only: leads can share an e-mail, and one of them be erased."""
        added = _keys_of(draft.document) - (set() if draft.stored is None else _keys_of(draft.stored))
        for text in sorted(self._erased & added):
            name = PUBLIC_NAMES[text.split(":", 1)[0]]
            raise UserProblem(
                ErrorCode.FORBIDDEN,
                f"The contact with this {name} was erased (deleteContact): it cannot be created again for 30 days.",
                (name,),
            )

    def _create(self, kind: IdentityKind, value: str) -> ContactDraft:
        if kind is IdentityKind.ID:
            raise UserProblem(
                ErrorCode.NOT_FOUND,
                f"There is no contact with the id '{value}', and only the gateway creates ids: to create a contact, give externalId, email or anonymousId.",
                (PUBLIC_NAMES[kind],),
            )
        document = self.new_contact()
        _add(document, kind, value)
        document["role"] = raised_role(document).value
        draft = ContactDraft(document, None)
        self.claim_identities(draft)
        self.register(draft)
        return draft

    def _attach(self, draft: ContactDraft, kind: IdentityKind, value: str) -> None:
        document = draft.document
        if identity(kind, value) in self._erased or self._taken(kind, value) or not _is_missing(document, kind):
            return
        attached = document.copy()
        attached["anonymous_ids"] = list(document["anonymous_ids"])
        _add(attached, kind, value)
        attached["role"] = raised_role(attached).value
        if self.users_email_taken(attached, draft):
            return
        document.update(attached)
        self.claim_identities(draft)
        document["updated_at"] = self._now
        self.register(draft)

    def _taken(self, kind: IdentityKind, value: str) -> bool:
        taken = identity(kind, value) in self._by_identity
        return taken or (kind is IdentityKind.EMAIL and bool(self._by_email.get(value.lower())))

    def users_email_taken(self, document: ContactDocument, draft: ContactDraft) -> bool:
        """Whether the contact is a USER with the e-mail of another USER."""
        if document["role"] != ContactRole.USER or not document.get("email"):
            return False
        return self._by_identity.get(identity(IdentityKind.EMAIL, document["email"]), draft) is not draft

    def register(self, draft: ContactDraft) -> None:
        self.drafts[draft.id] = draft
        for text in draft.document["identities"]:
            self._by_identity[text] = draft
        if email := draft.document.get("email"):
            holders = self._by_email.setdefault(email.lower(), [])
            if draft not in holders:
                holders.append(draft)


def _keys_of(contact: ContactDocument) -> set[str]:
    email = contact.get("email")
    return {*contact.get("identities", ()), *([identity(IdentityKind.EMAIL, email)] if email else ())}


def _set(contact: ContactDocument, field: str, value: str | None) -> None:
    document = by_name(contact)
    if value is None:
        document.pop(field, None)
    else:
        document[field] = value


def _add(document: ContactDocument, kind: IdentityKind, value: str) -> None:
    if kind is IdentityKind.ANONYMOUS:
        _add_anonymous(document, value)
    else:
        by_name(document)[kind.value] = value
    if kind is IdentityKind.EMAIL:
        document["identities"] = [*document["identities"], lead_email(value)]


def _add_anonymous(document: ContactDocument, value: str) -> None:
    if value not in document["anonymous_ids"]:
        document["anonymous_ids"] = [*document["anonymous_ids"], value]


def _is_missing(document: ContactDocument, kind: IdentityKind) -> bool:
    if kind is IdentityKind.ANONYMOUS:
        return len(document["anonymous_ids"]) < MAX_ANONYMOUS_IDS
    return by_name(document).get(kind.value) is None
