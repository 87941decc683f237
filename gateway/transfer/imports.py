"""Imports files row by row, in groups and bounded memory. Every row has an identity, so an import can be repeated."""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from gateway.core.clock import Clock
from gateway.core.idempotency import claim
from gateway.domain.contacts.contacts import ContactRef, Document, IdentityKind, identity
from gateway.domain.events.events import IMPORT_YEARS, TrackEvent, TrackResult, track_event
from gateway.errors import ErrorCode, StartupError, UserProblem
from gateway.services.events.tracking import EventService
from gateway.settings import Settings
from gateway.store.workspace_store import Store
from gateway.transfer.bulk_upserts import BulkUpserts, RowResult
from gateway.transfer.contact_rows import ContactColumns, contact_of
from gateway.transfer.event_columns import Columns, event_of
from gateway.transfer.event_rows import NEEDED, exported_event
from gateway.transfer.row_files import MAX_ROW_CHARACTERS, UNREADABLE, Row, RowFile, content_hash

GROUP = 500
Numbered = tuple[int, Row]
Outcome = RowResult | UserProblem


@dataclass(slots=True)
class Progress:
    """The progress on a file: `done` of `total` in bytes of the file (in rows for an export), and rows per outcome."""

    phase: str
    done: int
    total: int | None
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0

    @property
    def rows(self) -> int:
        return self.added + self.changed + self.unchanged + self.rejected

    def count(self, outcome: RowResult) -> None:
        self.added += outcome is RowResult.ADDED
        self.changed += outcome is RowResult.CHANGED
        self.unchanged += outcome is RowResult.UNCHANGED


def _next_group(numbered: Iterator[Numbered]) -> list[Numbered]:
    group: list[Numbered] = []
    characters_left = MAX_ROW_CHARACTERS
    for index, row in itertools.islice(numbered, GROUP):
        group.append((index, row))
        characters_left -= row.size
        if characters_left <= 0:
            break
    return group


class FileImport(ABC):
    def __init__(self, workspace_id: str, path: Path) -> None:
        self._workspace_id = workspace_id
        self._path = path
        self._file = RowFile(path)
        self._rejected: IO[bytes] | None = None
        try:
            self.progress = Progress("reading", 0, path.stat().st_size)
        except OSError as error:
            raise StartupError(f"{path} cannot be read ({error.strerror}).") from error

    @property
    def rejected_path(self) -> Path:
        return self._path.with_name(self._path.name + ".rejected.ndjson")

    async def run(self, report: Callable[[Progress], None]) -> Progress:
        """Import every valid row. Calls `report` after each group."""
        with self._explain_errors():
            self.rejected_path.unlink(missing_ok=True)
        self._read_before(report)
        self.progress = Progress("importing", 0, self.progress.total)
        try:
            with self._path.open("rb") as raw, closing(self._file.rows(raw, self._check_header)) as rows:
                numbered = enumerate(rows)
                while group := _next_group(numbered):
                    for (_, row), outcome in zip(group, await self._import(group), strict=True):
                        self._report(row, outcome)
                    self.progress.done = raw.tell()
                    report(self.progress)
        except UNREADABLE as error:
            raise StartupError(
                f"{self._path} cannot be read to its end ({error}): the rows before are imported. Repair the file and run this command again."
            ) from error
        finally:
            if self._rejected is not None:
                self._rejected.close()
        return self.progress

    @abstractmethod
    async def _import(self, group: Sequence[Numbered]) -> Sequence[Outcome]:
        """The outcome of each row."""

    @abstractmethod
    def _check_header(self, header: Sequence[str]) -> None:
        """UserProblem if a CSV file with these columns cannot be imported."""

    def _read_before(self, report: Callable[[Progress], None]) -> None:  # noqa: B027 - most need nothing
        """Read the file before its rows, if needed."""

    def _report(self, row: Row, outcome: Outcome) -> None:
        if isinstance(outcome, UserProblem):
            self._reject(row, outcome)
        else:
            self.progress.count(outcome)

    def _reject(self, row: Row, problem: UserProblem) -> None:
        rejection = {
            "line": row.line,
            "reason": problem.message,
            "code": problem.code.value,
            "path": list(problem.path),
            "row": row.values,
        }
        with self._explain_errors():
            self._rejected = self._rejected or self.rejected_path.open("wb")
            self._rejected.write(json.dumps(rejection, ensure_ascii=True, default=str).encode() + b"\n")
        self.progress.rejected += 1

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"{self.rejected_path}, the file for rejected rows, cannot be written ({error.strerror}): fix that and run this command again."
            raise StartupError(message) from error


class ContactImport(FileImport):
    def __init__(self, batches: BulkUpserts, workspace_id: str, path: Path, columns: ContactColumns) -> None:
        super().__init__(workspace_id, path)
        self._batches = batches
        self._columns = columns

    async def _import(self, group: Sequence[Numbered]) -> Sequence[Outcome]:
        return await self._batches.upsert_rows(self._workspace_id, [self._contact_input(row) for _, row in group])

    def _check_header(self, header: Sequence[str]) -> None:
        self._columns.check(header)

    def _contact_input(self, row: Row) -> Document | UserProblem:
        if row.problem is not None:
            return row.problem
        try:
            return contact_of(row.values, self._columns, text=self._file.is_csv)
        except UserProblem as problem:
            return problem


class EventImport(FileImport):
    """An import of events. Without `columns` the file is one that an export wrote."""

    def __init__(
        self,
        events: EventService,
        store: Store,
        workspace_id: str,
        path: Path,
        columns: Columns | None,
        settings: Settings,
        clock: Clock,
    ) -> None:
        super().__init__(workspace_id, path)
        self._events = events
        self._contacts = store.open(workspace_id).contacts
        self._columns = columns
        self._settings = settings
        self._clock = clock
        self._content = ""

    def _read_before(self, report: Callable[[Progress], None]) -> None:
        if self._columns is None or self._columns.key is not None:
            return

        def show(done: int) -> None:
            self.progress.done = done
            report(self.progress)

        try:
            self._content = content_hash(self._path, show)
        except UNREADABLE as error:
            raise StartupError(f"{self._path} cannot be read ({error}).") from error

    def _check_header(self, header: Sequence[str]) -> None:
        needed = NEEDED if self._columns is None else self._columns.named()
        if missing := [column for column in needed if column not in header]:
            hint = " Name the columns with options: an export has other columns." if self._columns is None else ""
            raise UserProblem(
                ErrorCode.INVALID,
                f"The file has no column '{missing[0]}'. Its columns: {', '.join(header) or 'none'}.{hint}",
            )

    async def _import(self, group: Sequence[Numbered]) -> Sequence[Outcome]:
        commands = [self._command(index, row) for index, row in group]
        if self._columns is None:
            commands = await self._with_local_contacts(commands)
        outcomes = await self._events.track(self._workspace_id, commands)
        return [self._outcome_of(outcome) for outcome in outcomes]

    def _outcome_of(self, outcome: TrackResult | UserProblem) -> Outcome:
        if isinstance(outcome, TrackResult):
            return RowResult.UNCHANGED if outcome.duplicate else RowResult.ADDED
        if outcome.code is not ErrorCode.IDEMPOTENCY_KEY_REUSED or (self._columns and self._columns.key is not None):
            return outcome
        return UserProblem(
            outcome.code,
            "This row was imported before with other columns: the imported event stays as it is."
            if self._columns
            else "The event with this 'identity' exists with another 'fingerprint': the existing event stays as it is.",
        )

    def _command(self, index: int, row: Row) -> TrackEvent | UserProblem:
        if row.problem is not None:
            return row.problem
        try:
            if self._columns is None:
                return exported_event(row.values, self._settings, self._clock())
            return self._by_columns(index, row, self._columns)
        except UserProblem as problem:
            return problem

    def _by_columns(self, index: int, row: Row, columns: Columns) -> TrackEvent:
        event_input = event_of(row.values, columns, text=self._file.is_csv)
        if columns.key is not None:
            event_input["idempotency_key"] = str(_required(row.values, columns.key))
        command = track_event(event_input, self._settings, self._clock(), years=IMPORT_YEARS)
        row_claim = command.claim or claim("import", f"{self._content}:{index}", event_input)
        return replace(command, claim=row_claim, imported=True)

    async def _with_local_contacts(
        self, commands: Sequence[TrackEvent | UserProblem]
    ) -> list[TrackEvent | UserProblem]:
        """The same events, by the contact's id if it exists here, or else by its other keys."""
        events = [command for command in commands if isinstance(command, TrackEvent)]
        ids = sorted({command.contact.id for command in events if command.contact.id is not None})
        contacts = await self._contacts.with_identities([identity(IdentityKind.ID, id_) for id_ in ids])
        identities = {text for row in contacts.values() for text in row["identities"]}
        return [
            command if isinstance(command, UserProblem) else _with_local_contact(command, identities)
            for command in commands
        ]


def _with_local_contact(command: TrackEvent, identities: set[str]) -> TrackEvent:
    ref = command.contact
    if ref.id is None:
        return command
    if identity(IdentityKind.ID, ref.id) in identities:
        return replace(command, contact=ContactRef(id=ref.id))
    other_keys = replace(ref, id=None)
    return replace(command, contact=other_keys) if other_keys.keys() else command


def _required(values: Document, column: str) -> object:
    if values.get(column) in (None, ""):
        raise UserProblem(
            ErrorCode.INVALID, f"The column '{column}' is empty: it must have the idempotency key.", (column,)
        )
    return values[column]
