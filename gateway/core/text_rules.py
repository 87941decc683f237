"""Checks for text that is stored and looked up."""

from gateway.errors import ErrorCode, UserProblem
from gateway.urls import has_credentials, parse_http_url

MAX_URL_LENGTH = 2000


def check_text(text: str, path: tuple[str, ...], *, longest: int, named: str) -> str:
    """Return the text if it can be stored as a name or key. Raises UserProblem."""
    if not text.strip():
        raise UserProblem(ErrorCode.INVALID, f"{named} must not be empty.", path)
    if len(text) > longest:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED, f"{named} has {len(text)} characters, and {longest} are allowed.", path
        )
    if "\0" in text:
        raise UserProblem(ErrorCode.INVALID, f"{named} contains a NUL character: remove it.", path)
    return check_unicode(text, path, named=named)


def check_unicode(text: str, path: tuple[str, ...], *, named: str) -> str:
    """Return the text unless it contains a lone surrogate. Raises UserProblem."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserProblem(
            ErrorCode.INVALID, f"{named} contains a lone surrogate, which is no character: send whole characters.", path
        ) from None
    return text


def check_http_url(text: str, path: tuple[str, ...], *, longest: int = MAX_URL_LENGTH) -> str:
    """Return the text if it is an http(s) link without credentials. Raises UserProblem."""
    named = path[-1]
    check_text(text, path, longest=longest, named=named)
    url = parse_http_url(text)
    if url is None or has_credentials(url):
        message = (
            f"{named} must be an address that begins with https:// or http://, without a user, spaces or backslashes."
        )
        raise UserProblem(ErrorCode.INVALID, message, path)
    return text


def public_name(name: str) -> str:
    """A name in snake_case as the API writes it, in camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
