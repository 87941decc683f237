"""Commands on contacts, as callers send them."""

from dataclasses import dataclass
from datetime import datetime

from gateway.core.json_values import JsonObject
from gateway.core.unset import UNSET, Unset
from gateway.domain.contacts.documents import LocationFields


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertContact:
    """A contact and its fields. None clears; in `custom_attributes` a key with None is removed, and others stay."""

    id: str | Unset | None = UNSET
    external_id: str | Unset | None = UNSET
    email: str | Unset | None = UNSET
    anonymous_id: str | Unset | None = UNSET
    role: str | Unset | None = UNSET
    phone: str | Unset | None = UNSET
    name: str | Unset | None = UNSET
    first_name: str | Unset | None = UNSET
    last_name: str | Unset | None = UNSET
    avatar_url: str | Unset | None = UNSET
    location: LocationFields | Unset | None = UNSET
    signed_up_at: datetime | Unset | None = UNSET
    last_seen_at: datetime | Unset | None = UNSET
    custom_attributes: JsonObject | Unset | None = UNSET
    tags: list[str] | Unset | None = UNSET
    unsubscribed_from_emails: bool | Unset | None = UNSET
    has_hard_bounced: bool | Unset | None = UNSET
    marked_email_as_spam: bool | Unset | None = UNSET
    opted_out_subscription_types_count: int | Unset | None = UNSET
    idempotency_key: str | None = None

    @property
    def keys(self) -> dict[str, str | None]:
        """The keys that the caller gave, by stored name."""
        keys = {
            "id": self.id,
            "external_id": self.external_id,
            "email": self.email,
            "anonymous_id": self.anonymous_id,
        }
        return {name: key for name, key in keys.items() if key is not UNSET}


@dataclass(frozen=True, slots=True)
class IdentifyContact:
    """Somebody signs in: the anonymous contact is that user. What is known of the user; None clears."""

    anonymous_id: str
    external_id: str
    email: str | Unset | None = UNSET
    name: str | Unset | None = UNSET
    signed_up_at: datetime | Unset | None = UNSET
