"""Where an export goes: a file that appears when it is complete and can be resumed, or a stream."""

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
    """The progress of an export: it continues after the id `after` (None: from the start) and ends before `high`."""

    after: str | None
    high: str
    rows: int = 0
    size: int = 0


def escaped_formula(cell: str) -> str:
    """The cell, with an apostrophe in front if a spreadsheet would run it as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


class ExportSink(ABC):
    def __init__(self, format_: Format, *, escape_formulas: bool) -> None:
        self._format = format_
        self._escapes_formulas = escape_formulas
        self._columns: Sequence[str] = ()

    @abstractmethod
    def start(self, columns: Sequence[str], high: str) -> ExportCheckpoint:
        """Where the export starts or continues; `columns`: those of a CSV file."""

    @abstractmethod
    def write(self, rows: Sequence[Document], after: str) -> None:
        """Write these rows; `after` is the id of the last document that was read."""

    @abstractmethod
    def finish(self) -> None: ...

    def _header(self) -> bytes:
        return self._cells([self._columns]) if self._format is Format.CSV else b""

    def _encoded(self, rows: Sequence[Document]) -> bytes:
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
    """An export to an open stream such as standard output. It cannot be resumed."""

    def __init__(self, stream: IO[bytes], format_: Format, *, escape_formulas: bool = False) -> None:
        super().__init__(format_, escape_formulas=escape_formulas)
        self._stream = stream

    def start(self, columns: Sequence[str], high: str) -> ExportCheckpoint:
        self._columns = columns
        self._write_bytes(self._header())
        return ExportCheckpoint(None, high)

    def write(self, rows: Sequence[Document], after: str) -> None:
        self._write_bytes(self._encoded(rows))

    def finish(self) -> None:
        """Do nothing: every write is flushed."""

    def _write_bytes(self, content: bytes) -> None:
        try:
            self._stream.write(content)
            self._stream.flush()
        except OSError as error:
            with suppress(OSError):  # else the interpreter flushes the rest again at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise StartupError(f"The output cannot be written ({error.strerror}): its reader has closed it.") from error


class FileSink(ExportSink):
    """An export to a file: written page by page to a partial file with a checkpoint, and renamed when complete."""

    def __init__(
        self, path: Path, format_: Format, options: Mapping[str, Any], *, escape_formulas: bool = False
    ) -> None:
        super().__init__(format_, escape_formulas=escape_formulas)
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._checkpoint_path = path.with_name(path.name + ".partial.json")
        self._options = {**options, "format": format_.value, "escape_formulas": escape_formulas}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "FileSink":
        with self._explain_errors():
            self._file = self._partial.open("ab")
            self._lock(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def start(self, columns: Sequence[str], high: str) -> ExportCheckpoint:
        """Continue an interrupted export with the same options, or start."""
        self._columns = columns
        self._checkpoint = self._existing() or ExportCheckpoint(None, high)
        with self._explain_errors():
            self._open.truncate(self._checkpoint.size)
        if self._checkpoint.after is None:
            self._append(self._header())
        return self._checkpoint

    def write(self, rows: Sequence[Document], after: str) -> None:
        """Write these rows, then the checkpoint."""
        self._append(self._encoded(rows))
        self._checkpoint.after, self._checkpoint.rows = after, self._checkpoint.rows + len(rows)
        with self._explain_errors():
            new_path = self._checkpoint_path.with_name(self._checkpoint_path.name + ".new")
            new_path.write_bytes(orjson.dumps({**asdict(self._checkpoint), "options": self._options}))
            new_path.replace(self._checkpoint_path)

    def finish(self) -> None:
        with self._explain_errors():
            self._partial.replace(self._path)
            self._checkpoint_path.unlink(missing_ok=True)

    @property
    def _open(self) -> IO[bytes]:
        if self._file is None:
            raise AssertionError("the output is not open")
        return self._file

    def _append(self, content: bytes) -> None:
        # A gzip member per page: the file can be truncated between members.
        data = gzip.compress(content, mtime=0) if is_packed(self._path) else content
        with self._explain_errors():
            self._open.write(data)
            self._open.flush()
            os.fsync(self._open.fileno())
        self._checkpoint.size += len(data)

    def _existing(self) -> ExportCheckpoint | None:
        """The checkpoint of an earlier run with the same options, if its partial file is complete up to it."""
        try:
            fields = json.loads(self._checkpoint_path.read_bytes())
            options = fields.pop("options")
            checkpoint = ExportCheckpoint(**fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        is_complete = checkpoint.after is not None and self._partial.stat().st_size >= checkpoint.size
        return checkpoint if is_complete and options == self._options else None

    def _lock(self, file: IO[bytes]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = self._partial.exists() and os.fstat(file.fileno()).st_ino == self._partial.stat().st_ino
        except BlockingIOError:
            is_ours = False
        if not is_ours:
            file.close()
            raise StartupError(f"Another export is writing {self._path}: wait for it, or choose another file.")

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StartupError(
                f"{self._path} cannot be written ({error.strerror}): fix that and run this command again; it continues."
            ) from error
