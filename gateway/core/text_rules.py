"""What may stand in a text that is stored and looked up."""

from gateway.errors import ErrorCode, UserProblem
from gateway.urls import has_credentials, parse_http_url

MAX_URL_LENGTH = 2000


def check_text(text: str, path: tuple[str, ...], *, longest: int, named: str) -> str:
    """The text itself, where it can be stored as a name or a key; UserProblem says why not."""
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
    """The text itself, unless half of a surrogate pair stands alone in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserProblem(
            ErrorCode.INVALID, f"{named} contains a lone surrogate, which is no character: send whole characters.", path
        ) from None
    return text


def check_http_url(text: str, path: tuple[str, ...], *, longest: int = MAX_URL_LENGTH) -> str:
    """The text itself, where a page may link to it: http or https, and no scheme that runs code."""
    named = path[-1]
    check_text(text, path, longest=longest, named=named)
    url = parse_http_url(text)
    if url is None or has_credentials(url):
        message = (
            f"{named} must be an address that begins with https:// or http://, without a user, spaces or backslashes."
        )
        raise UserProblem(ErrorCode.INVALID, message, path)
    return text
