"""The contact that a call is about, depending on the principal: a contact token, a web page or a service."""

import hashlib

from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import PUBLIC_NAMES, ContactRef, IdentityKind, check_ref
from gateway.domain.contacts.documents import ContactRefFields
from gateway.errors import ErrorCode, UserProblem


def subject_ref(fields: ContactRefFields, principal: Principal | None) -> ContactRef:
    """The contact of a token, whatever the input says; else the input's reference. Raises UserProblem."""
    if principal is not None and principal.contact_id is not None:
        return ContactRef(id=principal.contact_id)
    ref = check_ref(fields)
    if principal is not None and principal.publishable:
        _check_not_a_user(ref)
    return ref


def namespace_of(ref: ContactRef, principal: Principal | None) -> str:
    """The namespace of idempotency keys: one for all services, one per token's contact, one per visitor."""
    if principal is not None and principal.contact_id is not None:
        return principal.id
    if principal is not None and principal.publishable:
        return "browser_" + hashlib.blake2b(str(ref.anonymous_id).encode(), digest_size=16).hexdigest()
    return ""


def _check_not_a_user(ref: ContactRef) -> None:
    """A page's key is public: it must not write to an identified contact's timeline."""
    for kind, _ in ref.keys():  # noqa: SIM118 - not a mapping
        if kind is not IdentityKind.ANONYMOUS:
            raise UserProblem(
                ErrorCode.FORBIDDEN,
                f"An API key with the scope BROWSER may name a contact only by anonymousId: leave {PUBLIC_NAMES[kind]} out, "
                "or track with a contact token (createContactToken).",
                (PUBLIC_NAMES[kind],),
            )
