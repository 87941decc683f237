"""Parses web addresses by the standard that browsers follow."""

import re

from pydantic import ValidationError
from pydantic_core import Url

# Refuses what browsers skip or change: spaces, control characters, backslashes, missing slashes.
_HTTP = re.compile(r"https?://[^\s\x00-\x1f\x7f-\x9f\\/?#][^\s\x00-\x1f\x7f-\x9f\\]*", re.IGNORECASE)


def parse_http_url(text: str) -> Url | None:
    """Parse an absolute http or https URL with a host; None for any other text."""
    if _HTTP.fullmatch(text) is None:
        return None
    try:
        url = Url(text)
    except ValidationError:
        return None
    host = url.host or "."
    return None if host.startswith(".") or ".." in host else url


def has_credentials(url: Url) -> bool:
    return bool(url.username or url.password)
