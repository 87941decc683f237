"""Splits text into search words, the same way on every server."""

import re
import unicodedata
from collections.abc import Iterable

from gateway.errors import BadRequestError

MAX_WORDS = 1000
MAX_SEARCH_WORDS = 20
_LONGEST_WORD = 40
_WORD = re.compile(r"[^\W_]+")


def extract_words(*texts: str | None) -> list[str]:
    """The distinct words in order, case-folded, without accents and punctuation."""
    words: dict[str, None] = {}
    for text in texts:
        if text:
            words.update((word[:_LONGEST_WORD], None) for word in _WORD.findall(_fold(text)))
    return list(words)


def parse_search(text: str, path: str) -> list[str]:
    """The words of a search text. Raises BadRequestError for none or too many."""
    words = extract_words(text)
    if not 1 <= len(words) <= MAX_SEARCH_WORDS:
        raise BadRequestError(f"{path} must have from 1 to {MAX_SEARCH_WORDS} words, not {len(words)}.")
    return words


def with_words(stored: Iterable[str], texts: Iterable[str | None]) -> list[str]:
    """Add words to the stored ones; beyond MAX_WORDS the first ones stay."""
    return list(dict.fromkeys([*stored, *extract_words(*texts)]))[:MAX_WORDS]


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))
