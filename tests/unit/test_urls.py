"""Addresses of the web: what a page may link to, and that nothing but the caller's problem is ever raised."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.text_rules import check_http_url
from gateway.errors import UserProblem
from gateway.urls import has_credentials, parse_http_url

MALFORMED = [
    "https://[x", "https://[::1", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://xn--.klaviyo.com", "https://xn--a.example",
    "https://a.example:99999", "https://a.example:-1", "https://a.example:x", "https://", "https:///a", "https://?a", "https://#a", "https:a.example",
    "https:\\\\a.example", "https://a.example\\@b.example", "https://a b.example", "https://a.example/ b", "https://a.exa\nmple", "\thttps://a.example",
    "https://a.example/\0", "https://a.example/\x7f", "https://\u00ad/", "https://a%00b.example", "https://ex\udc00.example", "https://a.example/\ud800",
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:https://a.example/1", "//a.example", "/a", "a", "",
    "http://", "httpss://a.example", "javascript:https://a.example", "https://.", "https://..a", "https://a..b",
]  # fmt: skip
PARTS = st.lists(
    st.sampled_from(["http", "https", ":", "//", "/", "\\", "[", "]", "@", "?", "#", "%", "%25", "xn--", "a", ".", "é", "。", "\ud800", "\0", "\n", " ", "99999", "::1", "\u202e"])
    | st.text(max_size=3),
    max_size=12,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED, ids=ascii)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_http_url(text) is None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://a.example", "a.example"),
        ("HTTP://A.Example:8080/b?c=d#e", "a.example"),
        ("https://例え.jp/ü", "xn--r8jz45g.jp"),
        ("http://[::1]:80/", "[::1]"),
        ("http://localhost", "localhost"),
    ],
)
def test_addresses_of_the_web(text: str, host: str) -> None:
    url = parse_http_url(text)
    assert url is not None
    assert (url.host, has_credentials(url)) == (host, False)


@given(PARTS | PARTS.map("https://".__add__) | st.text())
def test_nothing_but_the_callers_problem_is_raised(text: str) -> None:
    url = parse_http_url(text)
    assert url is None or url.scheme in ("http", "https")
    with suppress(UserProblem):
        assert check_http_url(text, ("avatarUrl",)) == text


@pytest.mark.parametrize(
    "text", ["https://user:secret@a.example", "https://user@a.example", "https://a.example/" + "a" * 2000]
)
def test_what_is_not_linked_to(text: str) -> None:
    with pytest.raises(UserProblem):
        check_http_url(text, ("url",))
