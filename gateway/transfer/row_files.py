"""Reads files of rows, plain or gzipped, in bounded memory; each row with its line and its problem."""

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
_TOO_LONG = f"more than {MAX_ROW_CHARACTERS:,} characters: check for a missing line break or quote"


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file with its first line, and its values or its problem. `size` is in characters."""

    line: int
    values: Document
    problem: UserProblem | None = None
    size: int = 0


def format_of(path: Path) -> Format | None:
    """The format that a file's name stands for; None if unknown."""
    kinds = [suffix.lower() for suffix in path.suffixes]
    if is_packed(path):
        kinds = kinds[:-1]
    if kinds and kinds[-1] in (".ndjson", ".jsonl", ".json"):
        return Format.NDJSON
    return Format.CSV if kinds and kinds[-1] == ".csv" else None


def is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def content_hash(path: Path, report: Callable[[int], None]) -> str:
    """A hash of the unpacked content. Calls `report` with the number of bytes of the file that were read."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as raw, _unpacked(raw) as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            report(raw.tell())
    return digest.hexdigest()


class RowFile:
    """A file of rows. Its name gives the format, its content whether it is gzipped."""

    def __init__(self, path: Path) -> None:
        format_ = format_of(path)
        if format_ is None:
            raise StartupError(f"{path} does not end in .csv, .ndjson, .csv.gz or .ndjson.gz: rename it.")
        self._path = path
        self.is_csv = format_ is Format.CSV

    def rows(self, raw: BufferedReader, check_header: Callable[[Sequence[str]], None]) -> Generator[Row, None, None]:
        """Every row. `check_header` gets the columns of a CSV file and may refuse them by a UserProblem."""
        lines = TextIOWrapper(_unpacked(raw), encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield from self._csv(lines, check_header) if self.is_csv else _ndjson(lines)
        finally:
            lines.detach()  # the caller closes the file

    def _csv(self, lines: IO[str], check_header: Callable[[Sequence[str]], None]) -> Iterator[Row]:
        csv.field_size_limit(_FIELD_CHARACTERS)
        row_lines = _Lines(lines)
        header = self._header(row_lines, check_header)
        while True:
            row_lines.forget()
            try:
                cells = next(csv.reader(row_lines, strict=True))
            except StopIteration:
                return
            except csv.Error as error:
                line, text = row_lines.rewind_to_second_line()
                problem = UserProblem(ErrorCode.INVALID, f"The line is not valid CSV ({error}).")
                yield Row(
                    line, {"text": text if len(text) <= MAX_ROW_CHARACTERS else text[:_SHOWN_CHARACTERS]}, problem
                )
                continue
            if len(cells) == len(header):
                yield Row(row_lines.first, dict(zip(header, cells, strict=True)), size=row_lines.size)
            elif cells:
                problem = UserProblem(
                    ErrorCode.INVALID, f"The row has {len(cells)} cells but the header has {len(header)}."
                )
                yield Row(row_lines.first, {"cells": cells}, problem, row_lines.size)

    def _header(self, lines: Iterator[str], check_header: Callable[[Sequence[str]], None]) -> list[str]:
        try:
            header = next(csv.reader(lines, strict=True), None) or []
            check_header(header)
        except csv.Error as error:
            raise StartupError(f"{self._path}: the header in line 1 is not valid CSV ({error}).") from error
        except UserProblem as error:
            raise StartupError(f"{self._path}: {error}") from error
        if duplicates := [column for index, column in enumerate(header) if column in header[:index]]:
            raise StartupError(f"{self._path} has two columns named '{duplicates[0]}': rename one of them.")
        return header


class _Lines:
    """Lines that can be read again from a row's second line: a stray quote swallows what follows it."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = _bounded(lines)
        self._again: deque[str] = deque()
        self._row_lines: list[str] = []
        self._read = 0
        self.size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._row_lines.append(line)
        self._read += 1
        self.size += len(line)
        if self.size > MAX_ROW_CHARACTERS:
            raise csv.Error(f"the row has {_TOO_LONG}")
        return line

    @property
    def first(self) -> int:
        return self._read - len(self._row_lines) + 1

    def forget(self) -> None:
        self._row_lines.clear()
        self.size = 0

    def rewind_to_second_line(self) -> tuple[int, str]:
        """Return the current row's first line by number and text; the others are read again."""
        number, (line, *rest) = self.first, self._row_lines
        self._again.extendleft(reversed(rest))
        self._read -= len(rest)
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
            not_object = UserProblem(ErrorCode.INVALID, "The line is not a JSON object.")
            yield Row(number, {"value": values}, not_object, len(line))


def _values(line: str) -> Any:
    if len(line) > MAX_ROW_CHARACTERS:
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, f"The line has {_TOO_LONG}")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UserProblem(ErrorCode.INVALID, "The line is not valid JSON.") from None


def _bounded(lines: IO[str]) -> Iterator[str]:
    """The lines, overlong ones without their ends, so that at most one line is in memory."""
    while line := lines.readline(MAX_ROW_CHARACTERS + 1):
        rest = line
        while len(rest) > MAX_ROW_CHARACTERS and not rest.endswith(("\r", "\n")):
            rest = lines.readline(MAX_ROW_CHARACTERS + 1)
        yield line


def _unpacked(raw: BufferedReader) -> Any:
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP_MAGIC else raw
