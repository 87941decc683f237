"""For whom a caller speaks: tokens for their contact, a page's key for anonymous visitors, a service's key for anybody."""

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import PUBLIC_NAMES, ContactRef, IdentityKind, check_ref
from gateway.errors import ErrorCode, UserProblem


def subject_ref(sent: Mapping[str, Any], speaker: Principal | None) -> ContactRef:
    """Whom a call is about: a token's own contact whatever was sent, else the reference sent; UserProblem."""
    if speaker is not None and speaker.contact_id is not None:
        return ContactRef(id=speaker.contact_id)
    ref = check_ref(sent)
    if speaker is not None and speaker.publishable:
        _check_not_a_user(ref)
    return ref


def namespace_of(ref: ContactRef, speaker: Principal | None) -> str:
    """Where a caller's idempotency keys live: services share one, each token's contact and each page's visitor has its own."""
    if speaker is not None and speaker.contact_id is not None:
        return speaker.id
    if speaker is not None and speaker.publishable:
        return "browser_" + hashlib.blake2b(str(ref.anonymous_id).encode(), digest_size=16).hexdigest()
    return ""


def _check_not_a_user(ref: ContactRef) -> None:
    """Who holds only what every visitor of a page can read must not write into the timeline of somebody they can name."""
    for kind, _ in ref.keys():  # noqa: SIM118 - not a mapping
        if kind is not IdentityKind.ANONYMOUS:
            raise UserProblem(
                ErrorCode.FORBIDDEN,
                f"A key with the scope BROWSER says who is meant by anonymousId alone: leave {PUBLIC_NAMES[kind]} out, "
                "or track with a contact's token (createContactToken).",
                (PUBLIC_NAMES[kind],),
            )
