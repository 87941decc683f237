"""Metadata: each value gets the type that people read, and what cannot be kept is refused where it stands."""

import copy
import math
from datetime import UTC, datetime
from typing import Any

import bson
import orjson
import pytest
from babel.numbers import format_currency
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.typed_values import check_metadata, format_money, parse_rfc3339, typed_metadata
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings

SETTINGS = Settings()
INVALID, LIMIT = ErrorCode.INVALID, ErrorCode.LIMIT_EXCEEDED
INVOICES = "https://dashboard.stripe.com/invoices"


def taken(metadata: dict[str, Any], settings: Settings = SETTINGS) -> list[dict[str, Any]]:
    """The entries of metadata as `trackEvent` takes it."""
    check_metadata(metadata, settings, ("metadata",))
    return typed_metadata(metadata, ("metadata",))


def refusal(metadata: dict[str, Any], settings: Settings = SETTINGS) -> UserProblem:
    with pytest.raises(UserProblem) as caught:
        taken(metadata, settings)
    return caught.value


def nested(levels: int, innermost: Any = 1) -> Any:
    value = innermost
    for level in range(levels):
        value = {"d": value} if level % 2 else [value]
    return value


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


# ---- one row a type --------------------------------------------------------------------------------------------------

TEXTS = [
    "",
    " ",
    "plan",
    "日本 \N{PILE OF POO}",
    "a\0b\nc",
    "$.a",
    "http://",
    "https://",
    "http:///path",
    "https://exa mple.com",
    "https://example.com/a b",
    "https://example.com\n",
    " https://example.com",
    "https://[::1",
    "ftp://example.com",
    "javascript:alert(1)",
    "mailto:a@example.com",
    "see https://example.com",
    "2026-01-31",
    "2026-01-31 09:30:00Z",
    "2026-01-31T09:30:00",
    "2026-01-31T09:30Z",
    "2026-02-30T09:30:00Z",
    "2026-01-31T24:00:01Z",
    "2026-01-31T09:30:00+24:00",
    "2026-01-31T09:30:00+0100",
    "2026-01-31T09:30:00Z\n",
    "2026-01-31T09:30:00.Z",
    "2026-01-31T09:30:00.1234567890Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01",
    "20260131T093000Z",
    "２０２６-01-31T09:30:00Z",  # noqa: RUF001 - digits, but not those of RFC 3339
    "1769851800",
]

NUMBERS = [
    (0, "0"),
    (-1, "-1"),
    (42, "42"),
    (2**53 - 1, "9007199254740991"),
    (2**53 + 1, "9007199254740993"),
    (2**63 - 1, "9223372036854775807"),
    (-(2**63), "-9223372036854775808"),
    (0.1, "0.1"),
    (-2.5, "-2.5"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (1e22, "1e+22"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
]

UNIX_DATES = [
    (0, utc(1970, 1, 1)),
    (1_769_851_800, utc(2026, 1, 31, 9, 30)),
    (1_769_851_800.25, utc(2026, 1, 31, 9, 30, 0, 250_000)),
    (1_769_851_800.1239, utc(2026, 1, 31, 9, 30, 0, 123_000)),
    (-1, utc(1969, 12, 31, 23, 59, 59)),
    (-0.5, utc(1969, 12, 31, 23, 59, 59, 500_000)),
    (-62_135_596_800, utc(1, 1, 1)),
    (253_402_300_799, utc(9999, 12, 31, 23, 59, 59)),
]

RFC3339 = [
    ("2026-01-31T09:30:00Z", utc(2026, 1, 31, 9, 30)),
    ("2026-01-31t09:30:00z", utc(2026, 1, 31, 9, 30)),
    ("2026-01-31T09:30:00.5Z", utc(2026, 1, 31, 9, 30, 0, 500_000)),
    ("2026-01-31T09:30:00.123Z", utc(2026, 1, 31, 9, 30, 0, 123_000)),
    ("2026-01-31T09:30:00.123999Z", utc(2026, 1, 31, 9, 30, 0, 123_000)),
    ("2026-01-31T09:30:00.123999999Z", utc(2026, 1, 31, 9, 30, 0, 123_000)),
    ("2026-01-31T09:30:00+05:30", utc(2026, 1, 31, 4)),
    ("2026-01-31T09:30:00-00:00", utc(2026, 1, 31, 9, 30)),
    ("2024-02-29T23:59:59-12:00", utc(2024, 3, 1, 11, 59, 59)),
    ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
    ("9999-12-31T23:59:59.999Z", utc(9999, 12, 31, 23, 59, 59, 999_000)),
]

LINKS = [
    "http://example.com",
    "https://example.com/a?b=c#d",
    "HTTPS://EXAMPLE.COM",
    "https://user@example.com:8080/",
    "https://[::1]/",
    "https://münchen.de/ä",
    "http://localhost",
]

RICH_LINKS = [
    ({"url": "https://example.com/o/1", "value": "Order 1"}, "Order 1"),
    ({"value": "Order 1", "url": "https://example.com/o/1"}, "Order 1"),
    ({"url": "https://example.com/o/1", "value": 1}, "1"),
    ({"url": "https://example.com/o/1", "value": -2.5}, "-2.5"),
    ({"url": "https://example.com/o/1", "value": ""}, ""),
]

MONEY = [
    (1250, "USD", "$12.50"),
    (-1250, "USD", "-$12.50"),
    (0, "USD", "$0.00"),
    (5, "USD", "$0.05"),
    (-5, "USD", "-$0.05"),
    (123_456_789, "USD", "$1,234,567.89"),
    (2**53 - 1, "USD", "$90,071,992,547,409.91"),
    (-(2**53 - 1), "USD", "-$90,071,992,547,409.91"),
    (99_900, "EUR", "€999.00"),
    (500, "JPY", "¥500"),
    (-500, "JPY", "-¥500"),
    (1_234_567, "JPY", "¥1,234,567"),
    (0, "JPY", "¥0"),
]

STRIPE = [
    ("stripe_invoice", "in_1", "INVOICE", "invoices"),
    ("stripe_charge", "ch_1", "CHARGE", "payments"),
    ("stripe_customer", "cus_1", "CUSTOMER", "customers"),
]

JSON = [
    None,
    [],
    [1, "a", None, {"b": [True]}],
    {},
    {"a": {"b": 1}},
    {"url": "https://example.com"},
    {"url": "no link", "value": "Order 1"},
    {"url": "https://example.com", "value": "Order 1", "more": 1},
    {"url": "https://example.com", "value": None},
    {"url": "https://example.com", "value": [1]},
    {"url": 1, "value": "Order 1"},
    {"amount": 1},
    {"currency": "USD"},
    {"amount": 1, "currency": "USD", "more": 1},
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text(text: str) -> None:
    assert taken({"k": text}) == [{"type": "TextMetadata", "key": "k", "text": text}]


@pytest.mark.parametrize(("number", "exact"), NUMBERS, ids=str)
def test_number(number: float, exact: str) -> None:
    (entry,) = taken({"k": number})
    assert entry == {
        "type": "NumberMetadata",
        "key": "k",
        "number": number if abs(number) < 2**53 else float(number),
        "exact": exact,
    }
    assert type(entry["number"]) is (type(number) if abs(number) < 2**53 else float)


@pytest.mark.parametrize("key", ["k", "k_date"])
@pytest.mark.parametrize("value", [True, False])
def test_boolean(key: str, value: bool) -> None:
    (entry,) = taken({key: value})
    assert entry == {"type": "BooleanMetadata", "key": key, "boolean": value}
    assert entry["boolean"] is value


@pytest.mark.parametrize(("seconds", "date"), UNIX_DATES, ids=str)
@pytest.mark.parametrize("key", ["order_date", "_date"])
def test_date_in_unix_seconds(key: str, seconds: float, date: datetime) -> None:
    assert taken({key: seconds}) == [{"type": "DateMetadata", "key": key, "date": date}]


@pytest.mark.parametrize("key", ["date", "orderdate", "order_dates", "order_Date", "order_date_"])
def test_a_number_under_another_key_is_no_date(key: str) -> None:
    assert taken({key: 1}) == [{"type": "NumberMetadata", "key": key, "number": 1, "exact": "1"}]


@pytest.mark.parametrize(("text", "date"), RFC3339, ids=str)
@pytest.mark.parametrize("key", ["k", "k_date"])
def test_date_in_rfc3339(key: str, text: str, date: datetime) -> None:
    assert taken({key: text}) == [{"type": "DateMetadata", "key": key, "date": date}]
    assert parse_rfc3339(text) == date


@pytest.mark.parametrize("value", ["tomorrow", "2026-01-31", ""])
def test_a_text_under_a_date_key_that_is_no_date_stays_text(value: str) -> None:
    assert taken({"k_date": value}) == [{"type": "TextMetadata", "key": "k_date", "text": value}]


@pytest.mark.parametrize("url", LINKS)
def test_link(url: str) -> None:
    assert taken({"k": url}) == [{"type": "LinkMetadata", "key": "k", "url": url}]


@pytest.mark.parametrize(("value", "label"), RICH_LINKS, ids=str)
def test_rich_link(value: dict[str, Any], label: str) -> None:
    assert taken({"k": value}) == [
        {"type": "LinkMetadata", "key": "k", "url": "https://example.com/o/1", "label": label}
    ]


@pytest.mark.parametrize(("value", "label"), [(True, "true"), (False, "false")])
def test_the_label_of_a_rich_link_is_no_python(value: bool, label: str) -> None:
    sent = {"url": "https://example.com", "value": value}
    (entry,) = taken({"k": sent})
    assert entry in (
        {"type": "JsonMetadata", "key": "k", "json": sent},
        {"type": "LinkMetadata", "key": "k", "url": "https://example.com", "label": label},
    )


@pytest.mark.parametrize(("amount", "currency", "formatted"), MONEY, ids=str)
def test_money(amount: int, currency: str, formatted: str) -> None:
    entry = {"type": "MoneyMetadata", "key": "k", "amount_minor": amount, "currency": currency, "formatted": formatted}
    assert taken({"k": {"amount": amount, "currency": currency}}) == [entry]
    assert taken({"k": {"currency": currency.lower(), "amount": amount}}) == [entry]


@pytest.mark.parametrize(
    ("amount", "sign", "digits"), [(1_234_567, "", "1,234.567"), (-1234, "-", "1.234"), (-1, "-", "0.001")]
)
def test_money_with_three_decimals(amount: int, sign: str, digits: str) -> None:
    (entry,) = taken({"k": {"amount": amount, "currency": "BHD"}})
    assert (entry["amount_minor"], entry["currency"]) == (amount, "BHD")
    assert entry["formatted"].replace("\N{NO-BREAK SPACE}", "") == f"{sign}BHD{digits}"


@pytest.mark.parametrize(
    ("amount", "currency"), [(1_234_567, "BHD"), (-5, "BHD"), (100, "CHF"), (-1250, "USD"), (500, "JPY")]
)
def test_money_looks_as_people_in_the_united_states_write_it(amount: int, currency: str) -> None:
    digits = {"BHD": 3, "JPY": 0}.get(currency, 2)
    assert format_money(amount, currency) == format_currency(amount / 10**digits, currency, locale="en_US")


@pytest.mark.parametrize(("key", "stripe_id", "name", "page"), STRIPE)
def test_stripe(key: str, stripe_id: str, name: str, page: str) -> None:
    def entry(mode: str) -> dict[str, Any]:
        url = f"https://dashboard.stripe.com/{mode}{page}/{stripe_id}"
        return {"type": "StripeMetadata", "key": key, "object": name, "stripe_id": stripe_id, "url": url}

    assert taken({key: stripe_id}) == [entry("")]
    assert taken({key: stripe_id, "livemode": True})[0] == entry("")
    assert taken({key: stripe_id, "livemode": False})[0] == entry("test/")
    assert taken({"livemode": False, key: stripe_id})[1] == entry("test/")


@pytest.mark.parametrize("livemode", [0, "false", None, []], ids=str)
def test_only_a_livemode_of_false_is_test_mode(livemode: Any) -> None:
    assert taken({"stripe_invoice": "in_1", "livemode": livemode})[0]["url"] == f"{INVOICES}/in_1"


@pytest.mark.parametrize(
    ("stripe_id", "end"),
    [
        ("../../x", "..%2F..%2Fx"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b", "a%20b"),
        ("ü", "%C3%BC"),
        ("https://x.com", "https%3A%2F%2Fx.com"),
    ],
)
def test_a_stripe_id_stays_one_part_of_its_url(stripe_id: str, end: str) -> None:
    assert taken({"stripe_invoice": stripe_id})[0]["url"] == f"{INVOICES}/{end}"


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("", "TextMetadata"),
        (1, "NumberMetadata"),
        (True, "BooleanMetadata"),
        (None, "JsonMetadata"),
        ({"id": "in_1"}, "JsonMetadata"),
    ],
    ids=str,
)
def test_a_stripe_key_with_another_value_is_what_its_value_is(value: Any, type_: str) -> None:
    assert taken({"stripe_invoice": value})[0]["type"] == type_


@pytest.mark.parametrize("value", JSON, ids=str)
def test_json(value: Any) -> None:
    assert taken({"k": value}) == [{"type": "JsonMetadata", "key": "k", "json": value}]


def test_entries_come_in_the_order_sent() -> None:
    assert [entry["key"] for entry in taken({"z": 1, "a": None, "m": "x"})] == ["z", "a", "m"]
    assert taken({}) == []


# ---- one row a refusal -----------------------------------------------------------------------------------------------

_KEYS = [
    ("$", "$a", INVALID),
    ("$", "a$", INVALID),
    (".", "a.b", INVALID),
    ("NUL", "a\0b", INVALID),
    ("empty", "", INVALID),
]
_KEYS += [("empty", " \t", INVALID), ("surrogate", "a\ud800", INVALID), ("characters", "k" * 101, LIMIT)]
_VALUES: list[tuple[str, Any]] = [
    ("64 bits", 2**63),
    ("64 bits", -(2**63) - 1),
    ("64 bits", 10**400),
    ("not a number", math.nan),
    ("not a number", math.inf),
    ("not a number", -math.inf),
    ("surrogate", "\ud800"),
    ("surrogate", "a\udfffb"),
]

REFUSALS: list[tuple[str, dict[str, Any], ErrorCode, tuple[str, ...]]] = [
    *((said, {"ok": 1, key: 1}, code, (key,)) for said, key, code in _KEYS),
    *((said, {"ok": 1, "in": {"ok": 1, key: 1}}, code, ("in", key)) for said, key, code in _KEYS),
    *((said, {"in": [0, {"deep": {key: 1}}]}, code, ("in", "1", "deep", key)) for said, key, code in _KEYS),
    *((said, {"ok": 1, "k": value}, INVALID, ("k",)) for said, value in _VALUES),
    *((said, {"k": {"ok": 1, "in": value}}, INVALID, ("k", "in")) for said, value in _VALUES),
    *((said, {"k": [0, [1, value]]}, INVALID, ("k", "1", "1")) for said, value in _VALUES),
    *((said, {"k": {"amount": value, "currency": "USD"}}, INVALID, ("k", "amount")) for said, value in _VALUES[:6]),
    *((said, {"k_date": value}, INVALID, ("k_date",)) for said, value in _VALUES[:6]),
    ("the limit is 100", {f"k{number}": 1 for number in range(101)}, LIMIT, ("k100",)),
    ("deeper", {"k": nested(9)}, LIMIT, ("k", *["0", "d"] * 4)),
    ("bytes", {"k": "x" * 32_768}, LIMIT, ("k",)),
    ("bytes", {"a": "x" * 20_000, "b": "x" * 20_000, "c": 1}, LIMIT, ("b",)),
    ("bytes", {"k": "ü" * 16_384}, LIMIT, ("k",)),
    *(
        ("amount", {"k": {"amount": amount, "currency": "USD"}}, INVALID, ("k", "amount"))
        for amount in (12.5, 1.0, "1", None, True, [1], {"a": 1}, 2**53, -(2**53))
    ),
    *(
        ("ISO 4217", {"k": {"amount": 1, "currency": currency}}, INVALID, ("k", "currency"))
        for currency in ("", "US", "USDX", "ZZZ", "XXX", "$", " USD", 840, None, True, ["USD"])
    ),
    *(
        ("year 9999", {"k_date": seconds}, INVALID, ("k_date",))
        for seconds in (253_402_300_800, 1_769_851_800_000, 2**63 - 1, 1e300, -62_135_596_801, -(2**63), -1e300)
    ),
]


@pytest.mark.parametrize(("said", "metadata", "code", "path"), REFUSALS, ids=lambda value: ascii(value)[:60])
def test_refusals(said: str, metadata: dict[str, Any], code: ErrorCode, path: tuple[str, ...]) -> None:
    problem = refusal(metadata)
    assert (problem.code, problem.path) == (code, ("metadata", *path))
    assert said in problem.message
    assert problem.message.encode()
    assert "\0" not in problem.message
    assert len(problem.message) < 300


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"plan.name": 1}, "plan.name"),
        ({"in": {"$gt": 1}}, "$gt"),
        ({"price": math.nan}, "price"),
        ({"price": 2**63}, "price"),
        ({"order": {"amount": 1.5, "currency": "USD"}}, "order"),
        ({"order": {"amount": 1, "currency": "ZZZ"}}, "order"),
        ({"order_date": 1_769_851_800_000}, "order_date"),
        ({"k" * 101: 1}, "kkkkkkkk"),
        ({"text": "x" * 40_000}, "text"),
        ({**{f"k{number}": 1 for number in range(100)}, "last": 1}, "last"),
        ({"half": "\ud800"}, "half"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_refusal_names_the_key(metadata: dict[str, Any], named: str) -> None:
    assert f"'{named}" in refusal(metadata).message


@pytest.mark.parametrize("name", ["metadata", "customAttributes"])
def test_a_path_begins_where_the_metadata_stands(name: str) -> None:
    with pytest.raises(UserProblem) as caught:
        check_metadata({"a.b": 1}, SETTINGS, (name,))
    assert caught.value.path == (name, "a.b")


# ---- limits, to the last one that passes -----------------------------------------------------------------------------


def test_as_many_keys_as_are_allowed() -> None:
    assert len(taken({f"k{number}": number for number in range(100)})) == 100


def test_a_key_as_long_as_is_allowed() -> None:
    assert taken({"日" * 100: 1})[0]["key"] == "日" * 100


@pytest.mark.parametrize("key", ["a b", "a-b", "日本", "type", "_id", "__proto__", "a/b", "A", "'\"", "0"])
def test_keys_that_are_allowed(key: str) -> None:
    assert taken({key: {key: 1}}) == [{"type": "JsonMetadata", "key": key, "json": {key: 1}}]


def test_as_deep_as_is_allowed() -> None:
    assert taken({"k": nested(8)}) == [{"type": "JsonMetadata", "key": "k", "json": nested(8)}]


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_depth_is_a_setting(depth: int) -> None:
    settings = Settings(max_metadata_depth=depth)
    check_metadata({"k": nested(depth)}, settings, ())
    assert refusal({"k": nested(depth + 1)}, settings).code is LIMIT


def test_any_depth_is_refused_without_failing() -> None:
    assert refusal({"k": nested(100_000)}).code is LIMIT


def test_as_many_bytes_as_are_allowed() -> None:
    metadata = {"k": "x" * (32_768 - len('{"k":""}'))}
    assert len(orjson.dumps(metadata)) == 32_768
    assert len(taken(metadata)) == 1
    assert refusal({"k": metadata["k"] + "x"}).code is LIMIT


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8))
@example([40, 35, 0])
def test_bytes_are_those_of_the_json(lengths: list[int]) -> None:
    """`GATEWAY_MAX_METADATA_BYTES`: the most bytes of one event's metadata, as JSON; 100 in this test."""
    metadata = {f"k{number}": "x" * length for number, length in enumerate(lengths)}
    try:
        check_metadata(metadata, Settings(max_metadata_bytes=100), ())
        passed = True
    except UserProblem:
        passed = False
    assert passed is (len(orjson.dumps(metadata)) <= 100)


# ---- any JSON at all -------------------------------------------------------------------------------------------------

any_text = st.text(st.characters(), max_size=12)
any_key = any_text | st.sampled_from(
    [
        "a_date",
        "stripe_invoice",
        "stripe_charge",
        "livemode",
        "amount",
        "currency",
        "url",
        "value",
        "$",
        "a.b",
        "\0",
        "\ud800",
        "ok",
    ]
)
any_leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | any_text
    | st.sampled_from(
        [
            "USD",
            "jpy",
            "https://example.com",
            "2026-01-31T09:30:00Z",
            "9999-12-31T23:59:59-23:59",
            "http://[",
            "\udfff",
            "in_test_1",
        ]
    )
)
money = st.fixed_dictionaries(
    {"amount": any_leaf | st.integers(-(2**53), 2**53), "currency": any_leaf | st.sampled_from(["USD", "BHD", "XAU"])}
)
rich_link = st.fixed_dictionaries({"url": any_leaf, "value": any_leaf})
any_json = st.recursive(
    any_leaf | money | rich_link,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_key, inner, max_size=4),
    max_leaves=12,
)
TYPES = {
    "TextMetadata",
    "NumberMetadata",
    "BooleanMetadata",
    "DateMetadata",
    "LinkMetadata",
    "MoneyMetadata",
    "StripeMetadata",
    "JsonMetadata",
}


@given(st.dictionaries(any_key, any_json, max_size=6))
@example({"a_date": 253_402_300_799.9999999})
@example({"a_date": -62_135_596_800.0000001})
@example({"k": {"url": "https://\u2100.com", "value": 1}})
@example({"k": "https://\u2100.com"})
@example({"k": {"amount": 10**5000, "currency": "USD"}})
def test_any_json_is_kept_whole_or_refused(metadata: dict[str, Any]) -> None:
    before = copy.deepcopy(metadata)
    problem: UserProblem | None = None
    try:
        typed = taken(metadata)
    except UserProblem as refused:
        problem = refused
    if problem:
        assert problem.path[0] == "metadata"
        assert problem.code in (INVALID, LIMIT)
        assert problem.message.encode()
        return
    assert orjson.dumps(metadata) == orjson.dumps(before)
    assert [entry["key"] for entry in typed] == list(metadata)
    assert {entry["type"] for entry in typed} <= TYPES
    assert orjson.dumps(typed)
    stored = bson.decode(bson.encode({"metadata": typed, "metadata_json": metadata}))
    assert orjson.loads(orjson.dumps(stored["metadata_json"])) == orjson.loads(orjson.dumps(metadata))


@given(
    st.text(st.characters(), max_size=40)
    | st.from_regex(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", fullmatch=True)
)
def test_any_text_is_a_time_or_none(text: str) -> None:
    found = parse_rfc3339(text)
    assert found is None or (found.tzinfo is UTC and found.microsecond % 1000 == 0)


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.sampled_from(["JPY", "USD", "EUR", "BHD", "CLF"]))
def test_formatted_money_has_all_its_digits(amount: int, currency: str) -> None:
    formatted = format_money(amount, currency)
    assert int("".join(mark for mark in formatted if mark.isascii() and mark.isdigit())) == abs(amount)
    assert formatted.startswith("-") is (amount < 0)
