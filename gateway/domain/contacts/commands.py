"""Commands on contacts, as callers send them."""

from dataclasses import dataclass
from datetime import datetime

from gateway.core.unset import UNSET, Unset


@dataclass(frozen=True, slots=True)
class IdentifyContact:
    """Somebody signs in: the anonymous contact is that user. What is known of the user; None clears."""

    anonymous_id: str
    external_id: str
    email: str | Unset | None = UNSET
    name: str | Unset | None = UNSET
    signed_up_at: datetime | Unset | None = UNSET
