"""Words: what a conversation is found by, and how many of them are kept."""

import pytest

from gateway.core.full_text import MAX_WORDS, extract_words, with_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Déjà-vu, déjà VU!", ["deja", "vu"]),
        ("Straße 5, ﬁnal", ["strasse", "5", "final"]),
        ("snake_case a.b@c.example", ["snake", "case", "a", "b", "c", "example"]),
        ("Привет мир", ["привет", "мир"]),
        ("x" * 50, ["x" * 40]),
        ("?! …", []),
        (None, []),
    ],
)
def test_texts_are_cut_into_plain_words(text: str | None, words: list[str]) -> None:
    assert extract_words(text) == words


def test_the_first_words_are_kept() -> None:
    many = " ".join(f"w{number}" for number in range(MAX_WORDS + 5))
    kept = with_words(["first"], [many, None])
    assert len(kept) == MAX_WORDS
    assert (kept[0], kept[-1]) == ("first", f"w{MAX_WORDS - 2}")
    assert with_words(kept, ["w3 late"]) == kept
