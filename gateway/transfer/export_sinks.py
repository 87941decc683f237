"""Where an export goes: a file that is there once it is whole, and goes on where it was cut off, or a stream."""

import csv
import fcntl
import gzip
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from gateway.domain.contacts.contacts import Document
from gateway.errors import StartupError
from gateway.transfer.contact_rows import flat
from gateway.transfer.csv_values import format_cell
from gateway.transfer.row_files import Format, is_packed

# What OWASP names for CSV injection: signs, their full-width forms, and white space that spreadsheets skip.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(slots=True)
class ExportCheckpoint:
    """How far an export is: the id behind which it goes on (None: from the beginning), and the one before which it ends."""

    after: str | None
    high: str
    rows: int = 0
    size: int = 0


def escaped_formula(cell: str) -> str:
    """The cell, with an apostrophe before it where a spreadsheet would run it as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


class ExportSink(ABC):
    """Takes an export's rows."""

    def __init__(self, format_: Format, *, escape_formulas: bool) -> None:
        self._format = format_
        self._escapes_formulas = escape_formulas
        self._columns: Sequence[str] = ()

    @abstractmethod
    def begun(self, columns: Sequence[str], high: str) -> ExportCheckpoint:
        """Where the export begins or goes on; `columns`: those of a CSV file."""

    @abstractmethod
    def write(self, rows: Sequence[Document], after: str) -> None:
        """Take these rows; `after` is the id of the last document that was looked at."""

    @abstractmethod
    def finish(self) -> None:
        """There are no more rows."""

    def _header(self) -> bytes:
        return self._cells([self._columns]) if self._format is Format.CSV else b""

    def _written(self, rows: Sequence[Document]) -> bytes:
        if self._format is Format.NDJSON:
            return b"".join(orjson.dumps(row) + b"\n" for row in rows)
        flattened = [flat(row) for row in rows]
        return self._cells([[self._cell(row.get(name)) for name in self._columns] for row in flattened])

    def _cell(self, value: Any) -> str:
        cell = format_cell(value)
        return escaped_formula(cell) if self._escapes_formulas else cell

    @staticmethod
    def _cells(rows: Sequence[Sequence[str]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        return text.getvalue().encode()


class StreamSink(ExportSink):
    """An export to a stream that is open, such as the standard output: it cannot be resumed."""

    def __init__(self, stream: IO[bytes], format_: Format, *, escape_formulas: bool = False) -> None:
        super().__init__(format_, escape_formulas=escape_formulas)
        self._stream = stream

    def begun(self, columns: Sequence[str], high: str) -> ExportCheckpoint:
        """From the beginning."""
        self._columns = columns
        self._put(self._header())
        return ExportCheckpoint(None, high)

    def write(self, rows: Sequence[Document], after: str) -> None:
        """Write these rows."""
        self._put(self._written(rows))

    def finish(self) -> None:
        """All is written."""

    def _put(self, content: bytes) -> None:
        try:
            self._stream.write(content)
            self._stream.flush()
        except OSError as error:
            with suppress(OSError):  # or what is left in it is written, in vain, once more at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise StartupError(f"The output cannot be written ({error.strerror}): whoever reads it is gone.") from error


class FileSink(ExportSink):
    """An export to a file: written beside it, page by page, with how far it is, and renamed once it is whole."""

    def __init__(
        self, path: Path, format_: Format, options: Mapping[str, Any], *, escape_formulas: bool = False
    ) -> None:
        super().__init__(format_, escape_formulas=escape_formulas)
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._place = path.with_name(path.name + ".partial.json")
        self._options = {**options, "format": format_.value, "escape_formulas": escape_formulas}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "FileSink":
        with self._explain():
            self._file = self._partial.open("ab")
            self._lock(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def begun(self, columns: Sequence[str], high: str) -> ExportCheckpoint:
        """Where an export with these options was cut off, or the beginning."""
        self._columns = columns
        self._begun = self._existing() or ExportCheckpoint(None, high)
        with self._explain():
            self._open.truncate(self._begun.size)
        if self._begun.after is None:
            self._append(self._header())
        return self._begun

    def write(self, rows: Sequence[Document], after: str) -> None:
        """Write these rows, and then how far that is."""
        self._append(self._written(rows))
        self._begun.after, self._begun.rows = after, self._begun.rows + len(rows)
        with self._explain():
            new = self._place.with_name(self._place.name + ".new")
            new.write_bytes(orjson.dumps({**asdict(self._begun), "options": self._options}))
            new.replace(self._place)

    def finish(self) -> None:
        """Put the file where it belongs."""
        with self._explain():
            self._partial.replace(self._path)
            self._place.unlink(missing_ok=True)

    @property
    def _open(self) -> IO[bytes]:
        if self._file is None:
            raise AssertionError("the output is not open")
        return self._file

    def _append(self, content: bytes) -> None:
        packed = (
            gzip.compress(content, mtime=0) if is_packed(self._path) else content
        )  # a member of its own can be cut off
        with self._explain():
            self._open.write(packed)
            self._open.flush()
            os.fsync(self._open.fileno())
        self._begun.size += len(packed)

    def _existing(self) -> ExportCheckpoint | None:
        """How far an earlier run with the same options came, if what it wrote is there."""
        try:
            kept = json.loads(self._place.read_bytes())
            options = kept.pop("options")
            begun = ExportCheckpoint(**kept)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        there = begun.after is not None and self._partial.stat().st_size >= begun.size
        return begun if there and options == self._options else None

    def _lock(self, file: IO[bytes]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = self._partial.exists() and os.fstat(file.fileno()).st_ino == self._partial.stat().st_ino
        except BlockingIOError:
            ours = False
        if not ours:
            file.close()
            raise StartupError(f"Another export writes {self._path} right now: wait for it, or choose another file.")

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StartupError(
                f"{self._path} cannot be written ({error.strerror}): mend that and run this again, it goes on where it was."
            ) from error
