"""Files of rows: read in bounded memory, plain or packed, each row with its line and what is wrong with it."""

import csv
import gzip
import hashlib
import json
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, Any

from gateway.domain.contacts.contacts import Document
from gateway.errors import ErrorCode, StartupError, UserProblem

UNREADABLE = (gzip.BadGzipFile, EOFError, OSError, zlib.error)
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_FIELD_CHARACTERS = 4_000_000
MAX_ROW_CHARACTERS = 16_000_000
_SHOWN_CHARACTERS = 1000
_TOO_LONG = f"more than the {MAX_ROW_CHARACTERS:,} characters that are allowed: is a line break or a quote missing?"


class Format(StrEnum):
    """How a file has its rows."""

    CSV = "csv"
    NDJSON = "ndjson"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its line, and its values or why it has none; `size`: how many characters it has."""

    line: int
    values: Document
    problem: UserProblem | None = None
    size: int = 0


def format_of(path: Path) -> Format | None:
    """The format that a file's name tells."""
    kinds = [suffix.lower() for suffix in path.suffixes]
    if is_packed(path):
        kinds = kinds[:-1]
    if kinds and kinds[-1] in (".ndjson", ".jsonl", ".json"):
        return Format.NDJSON
    return Format.CSV if kinds and kinds[-1] == ".csv" else None


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it is gzipped."""
    return path.suffix.lower() == ".gz"


def content_hash(path: Path, report: Callable[[int], None]) -> str:
    """A hash of what is in the file; `report` is told how many of its bytes were read."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as raw, _unpacked(raw) as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            report(raw.tell())
    return digest.hexdigest()


class RowFile:
    """A file of rows; its name says how it has them, its content whether it is packed."""

    def __init__(self, path: Path) -> None:
        found = format_of(path)
        if found is None:
            raise StartupError(
                f"{path} is neither .csv nor .ndjson (nor one of them with .gz): rename it to say which."
            )
        self._path = path
        self.is_csv = found is Format.CSV

    def rows(self, raw: BufferedReader, check_header: Callable[[Sequence[str]], None]) -> Generator[Row, None, None]:
        """Every row; `check_header` is told the columns of a CSV file and may refuse them by a UserProblem."""
        lines = TextIOWrapper(_unpacked(raw), encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield from self._csv(lines, check_header) if self.is_csv else _ndjson(lines)
        finally:
            lines.detach()  # the file is its opener's to close

    def _csv(self, lines: IO[str], check_header: Callable[[Sequence[str]], None]) -> Iterator[Row]:
        csv.field_size_limit(_FIELD_CHARACTERS)
        recorded = _Lines(lines)
        header = self._header(recorded, check_header)
        while True:
            recorded.forget()
            try:
                cells = next(csv.reader(recorded, strict=True))
            except StopIteration:
                return
            except csv.Error as error:
                line, text = recorded.rewind_to_second_line()
                problem = UserProblem(ErrorCode.INVALID, f"The line is no CSV ({error}).")
                yield Row(
                    line, {"text": text if len(text) <= MAX_ROW_CHARACTERS else text[:_SHOWN_CHARACTERS]}, problem
                )
                continue
            if len(cells) == len(header):
                yield Row(recorded.first, dict(zip(header, cells, strict=True)), size=recorded.size)
            elif cells:
                problem = UserProblem(
                    ErrorCode.INVALID, f"The row has {len(cells)} cells, and the header {len(header)}."
                )
                yield Row(recorded.first, {"cells": cells}, problem, recorded.size)

    def _header(self, lines: Iterator[str], check_header: Callable[[Sequence[str]], None]) -> list[str]:
        try:
            header = next(csv.reader(lines, strict=True), None) or []
            check_header(header)
        except csv.Error as error:
            raise StartupError(f"{self._path}: the header in line 1 is no CSV ({error}).") from error
        except UserProblem as error:
            raise StartupError(f"{self._path}: {error}") from error
        if twice := [column for place, column in enumerate(header) if column in header[:place]]:
            raise StartupError(f"{self._path} has two columns named '{twice[0]}': rename one of them.")
        return header


class _Lines:
    """The lines of a file, of which those of the row under way can be read again: a stray quote swallows what follows."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = _bounded(lines)
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._read = 0
        self.size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        self._read += 1
        self.size += len(line)
        if self.size > MAX_ROW_CHARACTERS:
            raise csv.Error(f"the row has {_TOO_LONG}")
        return line

    @property
    def first(self) -> int:
        """The number of the line that the row under way begins with, from 1."""
        return self._read - len(self._taken) + 1

    def forget(self) -> None:
        """Begin a row."""
        self._taken.clear()
        self.size = 0

    def rewind_to_second_line(self) -> tuple[int, str]:
        """The row under way is broken: its first line, by number and text; the others are read again."""
        number, (line, *others) = self.first, self._taken
        self._again.extendleft(reversed(others))
        self._read -= len(others)
        return number, line.rstrip("\r\n")


def _ndjson(lines: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(_bounded(lines), start=1):
        if not line.strip():
            continue
        try:
            values = _values(line)
        except UserProblem as problem:
            yield Row(number, {"text": line[:_SHOWN_CHARACTERS]}, problem)
            continue
        if isinstance(values, dict):
            yield Row(number, values, size=len(line))
        else:
            not_object = UserProblem(ErrorCode.INVALID, "The line is no JSON object.")
            yield Row(number, {"value": values}, not_object, len(line))


def _values(line: str) -> Any:
    if len(line) > MAX_ROW_CHARACTERS:
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, f"The line has {_TOO_LONG}")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UserProblem(ErrorCode.INVALID, "The line is no JSON.") from None


def _bounded(lines: IO[str]) -> Iterator[str]:
    """The lines, those that are too long without their ends: whatever the file, one line at most is in memory."""
    while line := lines.readline(MAX_ROW_CHARACTERS + 1):
        rest = line
        while len(rest) > MAX_ROW_CHARACTERS and not rest.endswith(("\r", "\n")):
            rest = lines.readline(MAX_ROW_CHARACTERS + 1)
        yield line


def _unpacked(raw: BufferedReader) -> Any:
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP_MAGIC else raw
