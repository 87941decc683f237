"""Metadata: JSON from callers, checked and classified into typed values."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import NotRequired, TypedDict
from urllib.parse import quote

import orjson
from babel.numbers import format_currency
from iso4217 import Currency

from gateway.core.clock import to_milliseconds
from gateway.core.json_values import Json
from gateway.core.sendable_values import check_number, shown
from gateway.core.text_rules import check_text, check_unicode
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings
from gateway.urls import parse_http_url


class Entry(TypedDict):
    type: str
    key: str
    text: NotRequired[str]
    number: NotRequired[float]
    exact: NotRequired[str]
    boolean: NotRequired[bool]
    date: NotRequired[datetime]
    url: NotRequired[str]
    label: NotRequired[str]
    object: NotRequired[str]
    stripe_id: NotRequired[str]
    amount_minor: NotRequired[int]
    currency: NotRequired[str]
    formatted: NotRequired[str]
    json: NotRequired[Json]


Path = tuple[str, ...]
SAFE_INTEGER = 2**53 - 1
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_STRIPE = {
    "stripe_invoice": ("INVOICE", "invoices"),
    "stripe_charge": ("CHARGE", "payments"),
    "stripe_customer": ("CUSTOMER", "customers"),
}


def check_metadata(metadata: Mapping[str, Json], settings: Settings, path: Path) -> None:
    """Check that metadata can be stored. UserProblem names the first bad key."""
    if len(metadata) > settings.max_metadata_keys:
        extra = list(metadata)[settings.max_metadata_keys]
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"The metadata has {len(metadata)} keys; the limit is {settings.max_metadata_keys}: remove '{shown(extra)}' and those after it.",
            (*path, extra),
        )
    values = dict(metadata)
    _check_value(values, settings, path, depth=0)
    if len(orjson.dumps(values)) > settings.max_metadata_bytes:
        _check_size(metadata, settings, path)


def _check_size(metadata: Mapping[str, Json], settings: Settings, path: Path) -> None:
    size = 1
    for key, value in metadata.items():
        size += len(orjson.dumps({key: value})) - 1
        if size > settings.max_metadata_bytes:
            raise UserProblem(
                ErrorCode.LIMIT_EXCEEDED,
                f"With '{shown(key)}' the metadata has more than {settings.max_metadata_bytes} bytes of JSON: send less, or a link.",
                (*path, key),
            )


def typed_metadata(metadata: Mapping[str, Json], path: Path = ()) -> list[Entry]:
    """One entry per key, in order; `type` names the GraphQL type. UserProblem for malformed money or dates."""
    return [_typed_entry(key, value, metadata, path) for key, value in metadata.items()]


def parse_rfc3339(text: str) -> datetime | None:
    """The UTC time in milliseconds; None unless RFC 3339 with an offset."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return to_milliseconds(datetime.fromisoformat(text.upper()).astimezone(UTC))
    except (ValueError, OverflowError):
        return None


def _check_value(value: Json, settings: Settings, path: Path, depth: int) -> None:
    if isinstance(value, dict):
        _check_depth(settings, path, depth)
        for key, inner in value.items():
            _check_key(key, settings, (*path, key))
            _check_value(inner, settings, (*path, key), depth + 1)
    elif isinstance(value, list):
        _check_depth(settings, path, depth)
        for index, inner in enumerate(value):
            _check_value(inner, settings, (*path, str(index)), depth + 1)
    elif isinstance(value, str):
        if not value.isascii():
            check_unicode(value, path, named=f"'{shown(path[-1])}'")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_number(value, path)


def _check_depth(settings: Settings, path: Path, depth: int) -> None:
    if depth > settings.max_metadata_depth:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"'{shown(path[-1])}' is nested deeper than {settings.max_metadata_depth} levels: flatten it.",
            path,
        )


def _check_key(key: str, settings: Settings, path: Path) -> None:
    if key.isidentifier() and key.isascii() and len(key) <= settings.max_metadata_key_length:
        return  # fast path: nearly all keys
    check_text(key, path, longest=settings.max_metadata_key_length, named=f"The key '{shown(key)}'")
    for char in "$.":
        if char in key:
            raise UserProblem(
                ErrorCode.INVALID, f"The key '{shown(key)}' contains '{char}', which is not allowed: rename it.", path
            )


def _typed_entry(key: str, value: Json, metadata: Mapping[str, Json], path: Path) -> Entry:
    if isinstance(value, str):
        return _typed_text(key, value, metadata)
    if isinstance(value, bool):
        return {"type": "BooleanMetadata", "key": key, "boolean": value}
    if isinstance(value, int | float):
        return _typed_number(key, value, path)
    return _typed_object(key, value, path)


def _typed_number(key: str, value: float, path: Path) -> Entry:
    if key.endswith("_date"):
        return {"type": "DateMetadata", "key": key, "date": _unix_date(key, value, path)}
    number = value if abs(value) <= SAFE_INTEGER else float(value)
    return {"type": "NumberMetadata", "key": key, "number": number, "exact": orjson.dumps(value).decode()}


def _typed_object(key: str, value: Json, path: Path) -> Entry:
    if not isinstance(value, dict):
        return {"type": "JsonMetadata", "key": key, "json": value}
    match value:
        case {"url": str(url), "value": str(label)} if len(value) == 2 and _is_link(url):
            return {"type": "LinkMetadata", "key": key, "url": url, "label": label}
        case {"url": str(url), "value": bool() | int() | float() as label} if len(value) == 2 and _is_link(url):
            return {"type": "LinkMetadata", "key": key, "url": url, "label": orjson.dumps(label).decode()}
        case {"amount": amount, "currency": currency} if len(value) == 2:
            return _money(key, amount, currency, path)
    return {"type": "JsonMetadata", "key": key, "json": value}


def _typed_text(key: str, text: str, metadata: Mapping[str, Json]) -> Entry:
    if key in _STRIPE and text:
        return _stripe(key, text, metadata)
    if (date := parse_rfc3339(text)) is not None:
        return {"type": "DateMetadata", "key": key, "date": date}
    if _is_link(text):
        return {"type": "LinkMetadata", "key": key, "url": text}
    return {"type": "TextMetadata", "key": key, "text": text}


def _is_link(text: str) -> bool:
    return text[:4].lower() == "http" and parse_http_url(text) is not None


def _unix_date(key: str, seconds: float, path: Path) -> datetime:
    try:
        return to_milliseconds(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{shown(key)}' ends in '_date', so its value is a time in Unix seconds, but {seconds} is after the year 9999: divide milliseconds by 1000, or rename the key.",
            (*path, key),
        ) from None


def _stripe(key: str, stripe_id: str, metadata: Mapping[str, Json]) -> Entry:
    name, page = _STRIPE[key]
    test = "test/" if metadata.get("livemode") is False or "_test_" in stripe_id else ""
    url = f"https://dashboard.stripe.com/{test}{page}/{quote(stripe_id, safe='')}"
    return {"type": "StripeMetadata", "key": key, "object": name, "stripe_id": stripe_id, "url": url}


def _money(key: str, amount: Json, currency: Json, path: Path) -> Entry:
    if isinstance(amount, bool) or not isinstance(amount, int) or abs(amount) > SAFE_INTEGER:
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{shown(key)}' is money: its amount must be an integer of minor units (cents) within 2^53.",
            (*path, key, "amount"),
        )
    code = currency.upper() if isinstance(currency, str) else ""
    if code not in _minor_units():
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{shown(key)}' is money: its currency must be an ISO 4217 code such as USD.",
            (*path, key, "currency"),
        )
    return {
        "type": "MoneyMetadata",
        "key": key,
        "amount_minor": amount,
        "currency": code,
        "formatted": format_money(amount, code),
    }


def format_money(amount_minor: int, currency: str) -> str:
    """The amount in US notation. `currency` is an ISO 4217 code."""
    digits = _minor_units()[currency]
    pattern = "¤#,##0" + ("." + "0" * digits if digits else "")
    return format_currency(
        Decimal(amount_minor).scaleb(-digits), currency, pattern, locale="en_US", currency_digits=False
    )


def in_units(amount_minor: int, currency: str) -> float:
    """The amount in major units, such as dollars."""
    return float(Decimal(amount_minor).scaleb(-_minor_units()[currency]))


@cache
def _minor_units() -> dict[str, int]:
    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}
