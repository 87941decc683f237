"""The e-mail and phone that Klaviyo accepts of a contact, or why there is neither."""

import re
from dataclasses import dataclass

import phonenumbers

from gateway.domain.contacts.documents import ContactDocument

_LONGEST_EMAIL = 100
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_DROPPED_DOMAINS = ("example.com", "test.com")


@dataclass(frozen=True, slots=True)
class Identifiers:
    """What identifies a profile. `problem`: why nothing of this contact can arrive; `note`: what was left out."""

    email: str | None = None
    phone: str | None = None
    note: str | None = None
    problem: str | None = None

    @property
    def any(self) -> bool:
        """Whether Klaviyo can identify the contact."""
        return self.email is not None or self.phone is not None


def identifiers_of(contact: ContactDocument) -> Identifiers:
    """The identifiers of a contact that Klaviyo accepts."""
    email, phone = contact.get("email"), contact.get("phone")
    valid_email = email if email is not None and _is_email(email) else None
    valid_phone = None if phone is None else e164(phone, (contact.get("location") or {}).get("country"))
    notes = [
        *(
            [f"The e-mail '{email}' is left out: Klaviyo does not accept it."]
            if email is not None and not valid_email
            else []
        ),
        *(
            [f"The phone '{phone}' is left out: it is not a valid number in E.164 with its country."]
            if phone is not None and not valid_phone
            else []
        ),
    ]
    problem = None
    if valid_email and _domain(valid_email) in _DROPPED_DOMAINS:
        problem = f"Klaviyo silently drops what is sent for addresses at {_domain(valid_email)}."
    elif not valid_email and not valid_phone:
        problem = " ".join(["The contact has no e-mail and no phone that Klaviyo accepts.", *notes])
    return Identifiers(valid_email, valid_phone, " ".join(notes) or None, problem)


def e164(phone: str, country: str | None) -> str | None:
    """The number in E.164; None if it is invalid. `country` applies to national numbers if it is a two-letter code."""
    region = country.upper() if country is not None and len(country) == 2 else None
    try:
        number = phonenumbers.parse(phone, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _is_email(text: str) -> bool:
    return len(text) <= _LONGEST_EMAIL and _EMAIL.fullmatch(text) is not None


def _domain(email: str) -> str:
    return email.rpartition("@")[2].lower()
