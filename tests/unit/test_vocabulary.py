"""Identifiers and prose use the words of docs/glossary.md, and no private ones."""

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGES = ("gateway", "schema", "resolvers")
# The standard term stands beside each: what a newcomer would search for.
BANNED = {
    "anew": "again, or rebuild",
    "bring": "upsert, resolve or load",
    "brings": "carries",
    "brought": "imported",
    "deed": "activity",
    "deeds": "activity",
    "happening": "event",
    "happenings": "events",
    "judge": "evaluate",
    "judged": "evaluated",
    "judgement": "evaluation",
    "judges": "evaluates",
    "letter": "message",
    "letters": "messages",
    "lies": "is",
    "mailing": "campaign",
    "mailings": "campaigns",
    "meant": "resolved, or the name of what it is",
    "narrowing": "access path",
    "outlook": "expiry",
    "outlooks": "expiry",
    "pasts": "backfill",
    "stretch": "range",
    "stretches": "ranges",
    "tell": "report, emit or send",
    "telling": "reporting",
    "tells": "reports",
    "told": "reported, sent, or what it holds",
    "walk": "scan",
    "walks": "scans",
    "whoever": "the role",
    "whose": "owner",
}
STANDARD_LIBRARY = {"tell"}  # a file's position
# What people read has fewer: some words above are plain English in a sentence.
BANNED_IN_PROSE = {
    "anew": "again",
    "broken off": "interrupted",
    "brought": "imported, or restored",
    "deed": "event",
    "deeds": "events",
    "for ever": "forever, or permanently",
    "happening": "event",
    "happenings": "events",
    "hear": "receive",
    "heard": "received",
    "hears": "receives",
    "heed": "check",
    "judge": "evaluate",
    "judged": "evaluated",
    "judges": "evaluates",
    "looks after": "monitors, or processes",
    "meant": "resolved, or the name of what it is",
    "mend": "fix",
    "outlook": "expiry",
    "stretch": "range",
    "tell": "report, send, or distinguish",
    "tells": "reports, sends, or shows",
    "told": "reported, or sent",
    "under way": "active",
    "walk": "scan",
    "walks": "scans",
    "whoever": "the role",
}
PROSE = re.compile(rf"\b({'|'.join(BANNED_IN_PROSE)})\b", re.IGNORECASE)
GUIDES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
]
DEMO = ROOT / "gateway" / "demo"  # what its people write is theirs


def files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.Name(id=name):
                yield name, node.lineno
            case ast.Attribute(attr=name) if name not in STANDARD_LIBRARY:
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.value.lineno
            case ast.alias(asname=str(name)):
                yield name, node.lineno


def words(identifier: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", identifier).lower())


def private_words(source: str) -> list[str]:
    return [
        f"{line}: {name} ({BANNED[word]})"
        for name, line in identifiers(ast.parse(source))
        for word in words(name)
        if word in BANNED
    ]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_identifiers_have_no_private_words(path: Path) -> None:
    assert private_words(path.read_text()) == []


def test_modules_have_no_private_words() -> None:
    named = [word for path in files() for word in words(path.stem)]
    assert not BANNED.keys() & set(named)


def test_a_private_word_is_found_wherever_it_stands() -> None:
    source = "def f(told, *, a=1):\n    for whoseName in f(told=1):\n        whoseName.tell_it = anew\nimport os as outlook\n"
    found = {line.split(" ")[1] for line in private_words(source)}
    assert found == {"told", "whoseName", "tell_it", "anew", "outlook"}


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Comments, and texts that are sentences: docstrings, descriptions and messages."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)) if " " in text.strip():
                yield node.lineno, text


def private_phrases(lines: Iterable[tuple[int, str]]) -> list[str]:
    return [f"{line}: {word} ({BANNED_IN_PROSE[word.lower()]})" for line, text in lines for word in PROSE.findall(text)]


def paragraphs(guide: str) -> Iterator[tuple[int, str]]:
    """The lines of a guide without its code."""
    fenced = False
    for number, line in enumerate(guide.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", "", line)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_comments_docstrings_and_messages_have_no_private_words(path: Path) -> None:
    if not path.is_relative_to(DEMO):
        assert private_phrases(prose(path.read_text())) == []


def test_descriptions_of_the_schema_have_no_private_words() -> None:
    schema = (ROOT / "schema" / "schema.graphql").read_text()
    assert private_phrases(enumerate(schema.splitlines(), 1)) == []


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guides_have_no_private_words(path: Path) -> None:
    assert private_phrases(paragraphs(path.read_text())) == []


def test_a_private_word_is_found_in_every_kind_of_prose() -> None:
    source = '"""Told."""\n"""It was told."""\nx = f"they hear {1} of it"  # whoever it is\n'
    assert [line.split(" ")[1] for line in private_phrases(prose(source))] == ["whoever", "told", "hear"]
    guide = "Load anew `told`\n```sh\nwalk\n```\nFor ever.\n"
    assert private_phrases(paragraphs(guide)) == ["1: anew (again)", "5: For ever (forever, or permanently)"]


def rows() -> list[tuple[str, str]]:
    cells = [line.strip("|").split("|") for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
    return [(row[0].strip(), row[2].strip().strip("`")) for row in cells if "`" in row[2]]


@pytest.mark.parametrize(("term", "name"), rows())
def test_the_glossary_names_code_that_exists(term: str, name: str) -> None:
    module, _, member = name.rpartition(".")
    assert hasattr(importlib.import_module(module), member), term


def test_the_glossary_has_each_term_once() -> None:
    terms = [term for term, _ in rows()]
    assert len(terms) > 60
    assert len(terms) == len(set(terms))
