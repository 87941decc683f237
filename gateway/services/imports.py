"""Files of events: read row by row in bounded memory, tracked in groups, resumable because every row has an identity."""

import csv
import gzip
import hashlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, Any

from gateway.domain.clocks import Clock
from gateway.domain.contacts import Document
from gateway.domain.events import IMPORT_YEARS, Tracked, TrackEvent, track_event
from gateway.domain.idempotency import claim
from gateway.domain.imports import Columns, event_of
from gateway.errors import ErrorCode, StartupError, UserProblem
from gateway.services.events import EventService
from gateway.settings import Settings

GROUP = 500
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_FIELD_CHARACTERS = 1_000_000


@dataclass(slots=True)
class Progress:
    """How far an import is: bytes of the file as it lies on the disk, rows by what became of them."""

    phase: str
    bytes_done: int
    bytes_total: int
    added: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its line, and its values or why it has none."""

    line: int
    values: Document
    problem: UserProblem | None = None


class EventImport:
    """One import of one file into one workspace."""

    def __init__(
        self, events: EventService, workspace_id: str, path: Path, columns: Columns, settings: Settings, clock: Clock
    ) -> None:
        self._events = events
        self._workspace_id = workspace_id
        self._path = path
        self._columns = columns
        self._settings = settings
        self._clock = clock
        self._rejected: IO[bytes] | None = None
        self._content = ""
        try:
            self.progress = Progress("reading", 0, path.stat().st_size)
        except OSError as error:
            raise StartupError(f"{path} cannot be read ({error.strerror}).") from error

    @property
    def rejected_path(self) -> Path:
        """Where the rows go that could not be imported, with the reason."""
        return self._path.with_name(self._path.name + ".rejected.ndjson")

    async def run(self, report: Callable[[Progress], None]) -> Progress:
        """Import every row that can be; `report` is told after each group."""
        self.rejected_path.unlink(missing_ok=True)
        self._content = self._hash(report)
        self.progress = Progress("importing", 0, self.progress.bytes_total)
        try:
            with self._path.open("rb") as raw, closing(self._rows(raw)) as rows:
                numbered = enumerate(rows)
                while group := list(itertools.islice(numbered, GROUP)):
                    await self._import(group)
                    self.progress.bytes_done = raw.tell()
                    report(self.progress)
        except (gzip.BadGzipFile, EOFError, OSError) as error:
            raise StartupError(
                f"{self._path} cannot be read to its end ({error}): what came before is imported; mend the file and run this again."
            ) from error
        finally:
            if self._rejected is not None:
                self._rejected.close()
        return self.progress

    async def _import(self, group: list[tuple[int, Row]]) -> None:
        commands = [self._command(place, row) for place, row in group]
        outcomes = await self._events.track(self._workspace_id, commands)
        for (_, row), outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Tracked):
                self.progress.duplicates += outcome.duplicate
                self.progress.added += not outcome.duplicate
            else:
                self._reject(row, self._explained(outcome))

    def _explained(self, problem: UserProblem) -> UserProblem:
        if problem.code is not ErrorCode.IDEMPOTENCY_KEY_REUSED or self._columns.key is not None:
            return problem
        return UserProblem(
            problem.code,
            "This row of this file was imported before with other columns: what was imported stays as it is.",
        )

    def _command(self, place: int, row: Row) -> TrackEvent | UserProblem:
        if row.problem is not None:
            return row.problem
        try:
            sent = event_of(row.values, self._columns, text=_is_csv(self._path))
            if self._columns.key is not None:
                sent["idempotency_key"] = str(_present(row.values, self._columns.key))
            command = track_event(sent, self._settings, self._clock(), years=IMPORT_YEARS)
        except UserProblem as problem:
            return problem
        kept = command.claim or claim("import", f"{self._content}:{place}", sent)
        return replace(command, claim=kept, imported=True)

    def _reject(self, row: Row, problem: UserProblem) -> None:
        if self._rejected is None:
            self._rejected = self.rejected_path.open("wb")
        told = {
            "line": row.line,
            "reason": problem.message,
            "code": problem.code.value,
            "path": list(problem.path),
            "row": row.values,
        }
        self._rejected.write(json.dumps(told, ensure_ascii=True, default=str).encode() + b"\n")
        self.progress.rejected += 1

    def _hash(self, report: Callable[[Progress], None]) -> str:
        if self._columns.key is not None:
            return ""
        digest = hashlib.blake2b(digest_size=16)
        try:
            with self._path.open("rb") as raw, _unpacked(raw) as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    self.progress.bytes_done = raw.tell()
                    report(self.progress)
        except (gzip.BadGzipFile, EOFError, OSError) as error:
            raise StartupError(f"{self._path} cannot be read ({error}).") from error
        return digest.hexdigest()

    def _rows(self, raw: BufferedReader) -> Generator[Row, None, None]:
        lines = TextIOWrapper(_unpacked(raw), encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield from self._csv(lines) if _is_csv(self._path) else _ndjson(lines)
        finally:
            lines.detach()  # the file is its opener's to close

    def _csv(self, lines: IO[str]) -> Iterator[Row]:
        csv.field_size_limit(_FIELD_CHARACTERS)
        recorded = _Lines(lines)
        header = next(csv.reader(recorded, strict=True), None) or []
        self._check_header(header)
        while True:
            recorded.forget()
            try:
                cells = next(csv.reader(recorded, strict=True))
            except StopIteration:
                return
            except csv.Error as error:
                line, text = recorded.give_back_all_but_the_first()
                yield Row(line, {"text": text}, UserProblem(ErrorCode.INVALID, f"The line is no CSV ({error})."))
                continue
            if len(cells) == len(header):
                yield Row(recorded.first, dict(zip(header, cells, strict=True)))
            elif cells:
                problem = UserProblem(
                    ErrorCode.INVALID, f"The row has {len(cells)} cells, and the header {len(header)}."
                )
                yield Row(recorded.first, {"cells": cells}, problem)

    def _check_header(self, header: list[str]) -> None:
        if missing := [column for column in self._columns.named() if column not in header]:
            raise StartupError(f"{self._path} has no column '{missing[0]}': it has {', '.join(header) or 'none'}.")
        if twice := [column for place, column in enumerate(header) if column in header[:place]]:
            raise StartupError(f"{self._path} has two columns named '{twice[0]}': rename one of them.")


class _Lines:
    """The lines of a file, of which those of the row under way can be read again: a stray quote swallows what follows."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._read = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        self._read += 1
        return line

    @property
    def first(self) -> int:
        """The number of the line that the row under way begins with, from 1."""
        return self._read - len(self._taken) + 1

    def forget(self) -> None:
        """Begin a row."""
        self._taken.clear()

    def give_back_all_but_the_first(self) -> tuple[int, str]:
        """The row under way is broken: its first line, by number and text; the others are read again."""
        number, (line, *others) = self.first, self._taken
        self._again.extendleft(reversed(others))
        self._read -= len(others)
        return number, line.rstrip("\r\n")


def _ndjson(lines: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            yield Row(number, {"text": line[:1000]}, UserProblem(ErrorCode.INVALID, "The line is no JSON."))
            continue
        if isinstance(values, dict):
            yield Row(number, values)
        else:
            yield Row(number, {"value": values}, UserProblem(ErrorCode.INVALID, "The line is no JSON object."))


def _present(values: Document, column: str) -> Any:
    if values.get(column) in (None, ""):
        raise UserProblem(ErrorCode.INVALID, f"The column '{column}' is empty, and it is the row's key.", (column,))
    return values[column]


def _is_csv(path: Path) -> bool:
    kinds = [suffix.lower() for suffix in path.suffixes]
    if not kinds or kinds[-1] == ".gz":
        kinds = kinds[:-1]
    if kinds and kinds[-1] in (".ndjson", ".jsonl", ".json"):
        return False
    if kinds and kinds[-1] == ".csv":
        return True
    raise StartupError(f"{path} is neither .csv nor .ndjson (nor one of them with .gz): rename it to say which.")


def _unpacked(raw: BufferedReader) -> Any:
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP_MAGIC else raw
