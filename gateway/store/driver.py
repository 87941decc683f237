"""The only access to MongoDB: a small set of calls over Motor or PyMongo Async that raise gateway errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pymongo
from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from bson.tz_util import utc
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import (
    AsyncMongoClient,
    DeleteMany,
    DeleteOne,
    IndexModel,
    InsertOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
)
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from gateway.errors import BadRequestError, StartupError, UnavailableError
from gateway.settings import MongoDriver, Settings
from gateway.store.error_codes import CONFLICTS, DUPLICATE_KEY, FAULTS, TRANSIENT
from gateway.store.open_transactions import OpenTransactions
from gateway.store.server_clock import ServerClock
from gateway.store.write_health import WriteHealth

if TYPE_CHECKING:
    from gateway.store.repositories import Repository

Document = dict[str, Any]
DRIVERS_UTC = utc  # the timezone object of times in documents
Filter = Mapping[str, object]
Operation = InsertOne[Document] | UpdateOne | UpdateMany | DeleteOne | DeleteMany
Session = Any
_COMMIT_ATTEMPTS = 3
_LONG_SECONDS = 3600  # for work that grows with the data: building an index, deleting a workspace
_MAX_OPERATIONS = 200  # per call, so that a slow server finishes within the timeout
_MAX_INSERTS = 1000  # per call; inserts are faster, since nothing is searched
IDLE_MILLISECONDS = 500
_BATCH_SIZE = 100_000  # a page comes in one reply (up to 16 MB), not in batches of 101 documents
# FailedToParse, InvalidResumeToken, CappedPositionLost, ChangeStreamFatalError, ChangeStreamHistoryLost,
# OplogQueryMinTsMissing, no valid token
_HISTORY_LOST = frozenset({9, 260, 136, 280, 286, 326, 40647})


class NaiveUtcProjection(tuple[str, ...]):
    """Fields of documents that are only passed on, never computed with. Their times come back as naive UTC, which saves
    most of the decoding."""

    __slots__ = ()


class TransientError(UnavailableError):
    """The database did not respond as expected, and the outcome of the call is unknown: try again in a few seconds."""


class ConflictError(TransientError):
    """Another transaction writes the same data, and nothing was stored: try again in a few seconds."""


class FaultError(TransientError):
    """The database has an internal fault, such as a full disk, and the outcome of the call is unknown: try again in a few seconds."""


class HistoryLostError(Exception):
    """The server's history no longer reaches back to this position."""


class DuplicateError(TransientError):
    """A unique index refused the document: another writer stored one with the same key first."""


class Database:
    """One database of a deployment. Calls return plain documents. They raise UnavailableError (the server cannot be
    reached), TransientError (try again from the start) or a driver's error (a bug of the gateway)."""

    def __init__(
        self,
        uri: str,
        name: str,
        settings: Settings,
        listeners: Sequence[CommandListener] = (),
        repositories: Sequence["type[Repository[Any]]"] = (),
    ) -> None:
        self.repositories = repositories
        self._motor = settings.mongo_driver is MongoDriver.MOTOR
        self.server_clock = ServerClock()
        milliseconds = int(settings.mongo_timeout_seconds * 1000)
        factory: Any = AsyncIOMotorClient if self._motor else AsyncMongoClient
        try:
            self._client: Any = factory(
                uri,
                appname="gateway",
                tz_aware=True,
                timeoutMS=milliseconds,
                serverSelectionTimeoutMS=milliseconds,
                connectTimeoutMS=milliseconds,
                waitQueueTimeoutMS=milliseconds,
                event_listeners=list(listeners),
            )
        except (InvalidURI, ConfigurationError) as error:
            raise StartupError(f"GATEWAY_MONGO_URI is invalid: {error}.") from None
        self._database: Any = self._client.get_database(
            name,
            codec_options=CodecOptions(tz_aware=True),  # the driver's own UTC; any other costs a conversion per time
            write_concern=WriteConcern("majority"),
            read_concern=ReadConcern("majority"),
        )
        self._naive_utc: Any = self._database.with_options(codec_options=CodecOptions(tz_aware=False))
        self._open_transactions = OpenTransactions(self._database, motor=self._motor)
        self.writes = WriteHealth()

    async def close(self) -> None:
        await self._open_transactions.close()
        closing = self._client.close()
        if not self._motor:
            await closing

    async def check_deployment(self) -> None:
        """Pass if transactions and change streams work; else StartupError."""
        try:
            async with translate_errors():
                hello = await self._database.command("hello")
        except OperationFailure as error:
            raise StartupError(
                f"The database refused the connection: {error}. Check the user and password in GATEWAY_MONGO_URI."
            ) from None
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StartupError(
                "GATEWAY_MONGO_URI is a standalone server, which has no transactions: make it a replica set (one node is enough)."
            )

    async def ping(self) -> None:
        async with translate_errors():
            await self._database.command("ping")

    async def now(self) -> datetime:
        """The server's time. Leases use it, so that differences between machine clocks do not matter."""
        began = self.server_clock.machine_now()
        async with translate_errors():
            hello = await self._database.command("hello")
        return self.server_clock.measure(hello["localTime"], began)

    async def collections(self) -> set[str]:
        async with translate_errors():
            return set(await self._database.list_collection_names())

    async def find_one(self, collection: str, filter_: Filter) -> Document | None:
        async with translate_errors():
            document: Document | None = await self._database[collection].find_one(filter_)
            return document

    async def find(
        self,
        collection: str,
        filter_: Filter,
        *,
        sort: Mapping[str, int] | None = None,
        limit: int = 0,
        projection: Sequence[str] | None = None,
        session: Session = None,
    ) -> list[Document]:
        """The documents that match, in one list."""
        order = list(sort.items()) if sort else None
        database = self._naive_utc if isinstance(projection, NaiveUtcProjection) else self._database
        async with translate_errors():
            cursor = database[collection].find(
                filter_, projection, limit=limit, sort=order, batch_size=_BATCH_SIZE, session=session
            )
            documents: list[Document] = await cursor.to_list(None)
            return documents

    async def aggregate(
        self,
        collection: str,
        pipeline: Sequence[Filter],
        session: Session = None,
        *,
        long: bool = False,
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """The results of the pipeline, in one list. `long`: it may run for an hour. `fields`: the fields of the
        results, if known."""
        database = self._naive_utc if isinstance(fields, NaiveUtcProjection) else self._database
        async with translate_errors():
            with pymongo.timeout(_LONG_SECONDS) if long else nullcontext():
                cursor = database[collection].aggregate(list(pipeline), batchSize=_BATCH_SIZE, session=session)
                documents: list[Document] = await (cursor if self._motor else await cursor).to_list(None)
                return documents

    async def count(
        self,
        collection: str,
        filter_: Filter,
        most: int | None = None,
        *,
        long: bool = False,
        session: Session = None,
    ) -> int:
        """The number of matches, counted up to `most`. `long`: it may run for an hour."""
        async with translate_errors():
            options = {} if most is None else {"limit": most}
            with pymongo.timeout(_LONG_SECONDS) if long else nullcontext():
                return int(await self._database[collection].count_documents(filter_, session=session, **options))

    async def insert(self, collection: str, documents: Sequence[Filter], session: Session = None) -> None:
        """Insert in order; in a transaction all or none. DuplicateError if one exists already."""
        async with self._writing(session):
            for start in range(0, len(documents), _MAX_INSERTS):
                await self._database[collection].insert_many(documents[start : start + _MAX_INSERTS], session=session)

    async def update(self, collection: str, filter_: Filter, change: Filter, *, upsert: bool = False) -> int:
        """Update the first match; the number of documents matched or inserted."""
        async with translate_errors(self.writes):
            result = await self._database[collection].update_one(filter_, change, upsert=upsert)
            return int(result.matched_count) + (result.upserted_id is not None)

    async def find_and_update(
        self, collection: str, filter_: Filter, change: Filter | Sequence[Filter]
    ) -> Document | None:
        """Update the match and return the new document. Only the primary acknowledges it."""
        async with translate_errors(self.writes):
            with_primary_only = self._database[collection].with_options(write_concern=WriteConcern(1))
            document: Document | None = await with_primary_only.find_one_and_update(
                filter_, change, return_document=ReturnDocument.AFTER
            )
            return document

    async def bulk(self, collection: str, operations: Sequence[Operation], session: Session = None) -> int:
        """Apply pymongo operations in order; the number of documents matched."""
        matched = 0
        async with self._writing(session):
            for start in range(0, len(operations), _MAX_OPERATIONS):
                batch = operations[start : start + _MAX_OPERATIONS]
                matched += (await self._database[collection].bulk_write(batch, session=session)).matched_count
        return matched

    async def delete(self, collection: str, filter_: Filter, session: Session = None) -> int:
        """Delete every match; returns the number. Outside of a transaction it may run for an hour."""
        async with self._writing(session):
            with pymongo.timeout(_LONG_SECONDS) if session is None else nullcontext():
                return int((await self._database[collection].delete_many(filter_, session=session)).deleted_count)

    async def create_indexes(self, collection: str, indexes: Sequence[IndexModel]) -> None:
        async with translate_errors():
            with pymongo.timeout(_LONG_SECONDS):
                await self._database[collection].create_indexes(list(indexes))

    async def drop_index(self, collection: str, name: str) -> None:
        try:
            async with translate_errors():
                await self._database[collection].drop_index(name)
        except OperationFailure as error:
            if error.code not in _NO_SUCH_INDEX:
                raise

    async def transaction(self, body: Callable[[Session], Awaitable[None]]) -> None:
        """Run the body in one transaction, once. After TransientError it may be stored: check before a retry."""
        async with translate_errors(self.writes):
            session = await self._begin(WriteConcern("majority"))
            try:
                await body(session)
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError  # the driver lost the cancellation
            except BaseException as error:
                await self._abort(session, answered=not isinstance(error.__cause__ or error, _UNANSWERED))
                raise
            try:
                await _commit(session)
            except BaseException:
                self._open_transactions.end(session)  # the outcome is unknown
                raise
            await session.end_session()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        async with translate_errors():
            session, answered = await self._begin(), True
            try:
                yield session
            except BaseException as error:
                answered = not isinstance(error.__cause__ or error, _UNANSWERED)
                raise
            finally:
                await self._abort(session, answered=answered)

    @asynccontextmanager
    async def watch(
        self,
        collections: Sequence[str],
        resume_after: "str | Position | None" = None,
        *,
        idle_milliseconds: int = IDLE_MILLISECONDS,
    ) -> AsyncIterator["InsertStream"]:
        """The inserts into those collections from now on, or after that token or position. HistoryLostError if it is
        too old or belongs to another stream."""
        pipeline = [{"$match": {"ns.coll": {"$in": list(collections)}, "operationType": "insert"}}]
        position = resume_after if isinstance(resume_after, Position) else None
        start: dict[str, object] = {"max_await_time_ms": idle_milliseconds}
        if position is not None:
            start["start_at_operation_time"] = Timestamp(*position.at)
        elif resume_after is not None:
            start["resume_after"] = {"_data": resume_after}
        async with translate_errors():
            try:
                opening = self._database.watch(pipeline, **start)
                async with opening if self._motor else await opening as stream:
                    yield InsertStream(stream, position)
            except OperationFailure as error:
                if error.code in _HISTORY_LOST:
                    raise HistoryLostError(str(error)) from error
                raise

    def _writing(self, session: Session) -> "translate_errors":
        """Translate errors of a write. In a transaction only the commit is recorded in the write health."""
        return translate_errors(self.writes if session is None else None)

    async def _begin(self, write_concern: WriteConcern | None = None) -> Session:
        session = self._client.start_session()
        if self._motor:
            session = await session
        starting = session.start_transaction(write_concern=write_concern, read_concern=ReadConcern("snapshot"))
        if not self._motor:
            await starting
        return session

    async def _abort(self, session: Session, *, answered: bool) -> None:
        """Abort and end the session; in the background if the server did not answer, since its locks must go."""
        if not answered:
            self._open_transactions.end(session)
            return
        try:
            # The session's abort_transaction hides that it did not arrive.
            with suppress(OperationFailure):
                await self._client.admin.command("abortTransaction", session=session)
        except BaseException as error:
            self._open_transactions.end(session)
            if not isinstance(error, PyMongoError):  # the body's own error matters more
                raise
        else:
            await session.end_session()


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the change stream: after the document with that id, inserted at that cluster time.

    `token` resumes there directly, but MongoDB's can have hundreds of bytes: cursors contain none."""

    id: str
    token: str | None = field(compare=False)
    at: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Insert:
    """An inserted document as it was then, with the token to resume after it."""

    collection: str
    document: Document
    token: str
    at: tuple[int, int]  # cluster time. Tokens do not sort, these do; inserts of one transaction share it


class InsertStream:
    """Inserts in commit order. A stream opened at a position gives only the inserts after it."""

    def __init__(self, stream: Any, position: Position | None = None) -> None:
        self._stream = stream
        self._position = position

    async def next(self) -> Insert | None:
        """The next insert; None if none came for a while. HistoryLostError if the position is missing."""
        while (insert := await self._read()) is not None and self._position is not None:
            self._skip(insert, self._position)
        return insert

    def _skip(self, insert: Insert, position: Position) -> None:
        """Skip an insert up to the position. All of them have the cluster time of the position."""
        if insert.at != position.at:
            raise HistoryLostError("the stream does not reach back to this position")
        if insert.document["_id"] == position.id:
            self._position = None

    async def _read(self) -> Insert | None:
        change = await self._stream.try_next()
        _reraise_cancellation()
        if change is None:
            return None
        time = change["clusterTime"]
        return Insert(change["ns"]["coll"], change["fullDocument"], change["_id"]["_data"], (time.time, time.inc))


class translate_errors:  # noqa: N801 - named like the context managers of the standard library
    """Raise driver errors as gateway errors, and raise a cancellation again that the driver lost. `writes` records
    whether the write succeeded."""

    __slots__ = ("_writes",)

    def __init__(self, writes: WriteHealth | None = None) -> None:
        self._writes = writes

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if self._writes is not None:
            self._record(self._writes, error)
        if error is None or isinstance(error, PyMongoError):
            _reraise_cancellation()
        if isinstance(error, Exception) and (gateway_error := _to_gateway_error(error)) is not None:
            raise gateway_error from error

    @staticmethod
    def _record(writes: WriteHealth, error: BaseException | None) -> None:
        if error is None:
            writes.succeeded()
        elif (
            isinstance(error, FaultError) or isinstance(error.__cause__ or error, ConnectionFailure) or _is_fault(error)
        ):
            writes.failed()


def _to_gateway_error(error: Exception) -> Exception | None:
    """The gateway error for a driver's error; None to leave it as it is."""
    if isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError):
        return UnavailableError()
    if isinstance(error, DuplicateKeyError):
        return DuplicateError()
    if isinstance(error, ConnectionFailure | ProtocolError):
        return TransientError()
    if isinstance(error, UnicodeEncodeError):
        # Stored texts were checked; this one is in a filter.
        return BadRequestError("A text contains half of a surrogate pair: send valid Unicode.")
    return _error_for_codes(error) if isinstance(error, PyMongoError) else None


def _error_for_codes(error: PyMongoError) -> Exception | None:
    """The gateway error for server codes; None if the request is at fault, so that a retry fails alike."""
    codes = _codes(error)
    if DUPLICATE_KEY in codes:
        return DuplicateError()
    if codes & CONFLICTS:
        return ConflictError()
    if _is_fault(error):
        return FaultError()
    transient = codes & TRANSIENT or error.timeout or any(map(error.has_error_label, _TRANSIENT_LABELS))
    return TransientError() if transient else None


def _reraise_cancellation() -> None:
    """Raise CancelledError if the task was cancelled. PyMongo Async writes within `asyncio.wait_for`, which on Python
    3.11 loses a cancellation that arrives together with the result; the task would go on forever."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


_UNKNOWN_COMMIT = "UnknownTransactionCommitResult"
_TRANSIENT_LABELS = ("TransientTransactionError", _UNKNOWN_COMMIT, "RetryableWriteError")
# After these the outcome on the server is unknown, and it may still be working.
_UNANSWERED = (ConnectionFailure, ProtocolError, asyncio.CancelledError)
_NO_SUCH_INDEX = frozenset({26, 27})  # nor such a collection


def _codes(error: PyMongoError) -> set[int]:
    """Every error code in it, of the call and of single writes."""
    details = getattr(error, "details", None) or {}
    errors = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    return {
        code
        for code in (getattr(error, "code", None), *(write_error.get("code") for write_error in errors))
        if code is not None
    }


def _is_fault(error: BaseException) -> bool:
    """Whether the server reports a problem of its own, or too few members of the replica set took a write."""
    if not isinstance(error, PyMongoError):
        return False
    details = getattr(error, "details", None) or {}
    unconfirmed = isinstance(error, WriteConcernError) or details.get("writeConcernErrors")
    return bool(unconfirmed or _codes(error) & FAULTS)


async def _commit(session: Session) -> None:
    for attempt in range(1, _COMMIT_ATTEMPTS + 1):
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if attempt == _COMMIT_ATTEMPTS or not error.has_error_label(_UNKNOWN_COMMIT):
                raise
        else:
            return
