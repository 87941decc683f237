"""Checks for text that is stored and looked up."""

from collections.abc import Sequence

from gateway.errors import ErrorCode, UserProblem
from gateway.urls import has_credentials, parse_http_url

MAX_URL_LENGTH = 2000
MAX_TAGS = 100


def check_text(text: str, path: tuple[str, ...], *, longest: int, named: str) -> str:
    """Return the text if it can be stored as a name or key. Raises UserProblem."""
    if not text.strip():
        raise UserProblem(ErrorCode.INVALID, f"{named} must not be empty.", path)
    if len(text) > longest:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED, f"{named} has {len(text)} characters; the limit is {longest}.", path
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
            ErrorCode.INVALID, f"{named} contains half of a surrogate pair: send valid Unicode.", path
        ) from None
    return text


def check_http_url(text: str, path: tuple[str, ...], *, longest: int = MAX_URL_LENGTH) -> str:
    """Return the text if it is an http(s) link without credentials. Raises UserProblem."""
    named = path[-1]
    check_text(text, path, longest=longest, named=named)
    url = parse_http_url(text)
    if url is None or has_credentials(url):
        message = f"{named} must be a URL that begins with https:// or http://, without user, spaces or backslashes."
        raise UserProblem(ErrorCode.INVALID, message, path)
    return text


def check_tags(tags: Sequence[str], public: str = "tags") -> list[str]:
    """The tags in order, without duplicates. `public`: the name of their argument. Raises UserProblem."""
    if len(tags) > MAX_TAGS:
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, f"There are {len(tags)} tags; the limit is {MAX_TAGS}.", (public,))
    checked = (check_text(tag, (public, str(index)), longest=255, named="The tag") for index, tag in enumerate(tags))
    return list(dict.fromkeys(checked))


def public_name(name: str) -> str:
    """A name in snake_case as the API writes it, in camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
