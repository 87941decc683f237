"""Addresses of the web, read in one place: by the standard that browsers follow, without exceptions."""

import re

from pydantic import ValidationError
from pydantic_core import Url

# What browsers skip or change (spaces, control characters, backslashes, missing slashes) is refused.
_HTTP = re.compile(r"https?://[^\s\x00-\x1f\x7f-\x9f\\/?#][^\s\x00-\x1f\x7f-\x9f\\]*", re.IGNORECASE)


def parse_http_url(text: str) -> Url | None:
    """An absolute http or https address with a host; None for every other text."""
    if _HTTP.fullmatch(text) is None:
        return None
    try:
        url = Url(text)
    except ValidationError:
        return None
    host = url.host or "."
    return None if host.startswith(".") or ".." in host else url


def has_credentials(url: Url) -> bool:
    """Whether a user or a password is written in the address."""
    return bool(url.username or url.password)
