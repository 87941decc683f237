"""Words: how texts are cut up so that they can be found, the same on every server."""

import re
import unicodedata
from collections.abc import Iterable

from gateway.errors import BadRequestError

MAX_WORDS = 1000
MAX_SEARCH_WORDS = 20
_LONGEST_WORD = 40
_WORD = re.compile(r"[^\W_]+")


def extract_words(*texts: str | None) -> list[str]:
    """The words of the texts, each once, in their order: without case, accents and what is neither letter nor digit."""
    found: dict[str, None] = {}
    for text in texts:
        if text:
            found.update((word[:_LONGEST_WORD], None) for word in _WORD.findall(_fold(text)))
    return list(found)


def parse_search(text: str, path: str) -> list[str]:
    """The words that a text asks for; BadRequestError where there are none, or too many."""
    found = extract_words(text)
    if not 1 <= len(found) <= MAX_SEARCH_WORDS:
        raise BadRequestError(f"{path} must have from 1 to {MAX_SEARCH_WORDS} words, not {len(found)}.")
    return found


def with_words(kept: Iterable[str], texts: Iterable[str | None]) -> list[str]:
    """The words kept and those of the texts; beyond the bound the first ones stay."""
    return list(dict.fromkeys([*kept, *extract_words(*texts)]))[:MAX_WORDS]


def _fold(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(mark for mark in apart if not unicodedata.combining(mark))
