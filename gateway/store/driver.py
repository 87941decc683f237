"""The seam to MongoDB: one small set of calls over Motor or PyMongo Async, with errors in the gateway's words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pymongo
from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from bson.tz_util import utc
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, IndexModel, ReturnDocument
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

Document = dict[str, Any]
DRIVERS_UTC = utc  # of the times in documents
Filter = Mapping[str, Any]
Operation = Any
Session = Any
_COMMIT_ATTEMPTS = 3
_LONG_SECONDS = 3600  # for what grows with all that is stored: building an index, deleting a workspace
_MOST_OPERATIONS = 200  # of one call, so that a slow server does them within the time that a call has
_MOST_INSERTED = 1000  # likewise: nothing is looked for
IDLE_MILLISECONDS = 500
_ONE_BATCH = 100_000  # a page arrives in one answer (up to 16 MB), not in batches of 101 documents
# FailedToParse, InvalidResumeToken, CappedPositionLost, ChangeStreamFatalError, ChangeStreamHistoryLost,
# OplogQueryMinTsMissing, no valid token
_HISTORY_LOST = frozenset({9, 260, 136, 280, 286, 326, 40647})


class NaiveUtcProjection(tuple[str, ...]):
    """Fields of documents that are shown as they are stored, and looked at by nobody: their times are UTC without saying so,
    which spares the driver most of its work."""

    __slots__ = ()


class TransientError(UnavailableError):
    """The database did not answer as it should; whether it did what was asked is unknown. Try again in a few seconds."""


class ConflictError(TransientError):
    """Another transaction holds what this one writes; nothing was stored. Try again in a few seconds."""


class FaultError(TransientError):
    """The database met a problem of its own, such as a full disk; whether it did what was asked is unknown. Try again in a few seconds."""


class HistoryLostError(Exception):
    """The server no longer knows what came after that token."""


class DuplicateError(TransientError):
    """A unique index refused: somebody else wrote first, and the next look will see it."""


class Database:
    """One database of one deployment. Every call is awaited, returns plain documents, and raises UnavailableError
    (the server cannot be reached), TransientError (try again from the start) or a driver's error (a mistake of ours)."""

    def __init__(self, uri: str, name: str, settings: Settings, listeners: Sequence[CommandListener] = ()) -> None:
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
            raise StartupError(f"GATEWAY_MONGO_URI is not usable: {error}.") from None
        self._database: Any = self._client.get_database(
            name,
            codec_options=CodecOptions(tz_aware=True),  # the driver's own UTC: another is converted to, time by time
            write_concern=WriteConcern("majority"),
            read_concern=ReadConcern("majority"),
        )
        self._shown: Any = self._database.with_options(codec_options=CodecOptions(tz_aware=False))
        self._open_transactions = OpenTransactions(self._database, motor=self._motor)
        self.writes = WriteHealth()

    async def close(self) -> None:
        """Give back every connection."""
        await self._open_transactions.close()
        closed = self._client.close()
        if not self._motor:
            await closed

    async def check_deployment(self) -> None:
        """Pass where transactions and change streams work; StartupError says what is there instead."""
        try:
            async with translate_errors():
                hello = await self._database.command("hello")
        except OperationFailure as error:
            raise StartupError(
                f"The database refuses: {error}. Check the user and password in GATEWAY_MONGO_URI."
            ) from None
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StartupError(
                "The MongoDB of GATEWAY_MONGO_URI is a standalone server, without transactions: make it a replica set (one node is enough)."
            )

    async def ping(self) -> None:
        """Pass if the server answers."""
        async with translate_errors():
            await self._database.command("ping")

    async def now(self) -> datetime:
        """The time of the database's server. Leases go by it, so that no process's clock matters to another."""
        began = self.server_clock.machine_now()
        async with translate_errors():
            hello = await self._database.command("hello")
        return self.server_clock.measure(hello["localTime"], began)

    async def collections(self) -> set[str]:
        """The names of the collections that exist."""
        async with translate_errors():
            return set(await self._database.list_collection_names())

    async def find_one(self, collection: str, filter_: Filter) -> Document | None:
        """The first document that matches."""
        async with translate_errors():
            found: Document | None = await self._database[collection].find_one(filter_)
            return found

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
        database = self._shown if isinstance(projection, NaiveUtcProjection) else self._database
        async with translate_errors():
            cursor = database[collection].find(
                filter_, projection, limit=limit, sort=order, batch_size=_ONE_BATCH, session=session
            )
            found: list[Document] = await cursor.to_list(None)
            return found

    async def aggregate(
        self,
        collection: str,
        pipeline: Sequence[Filter],
        session: Session = None,
        *,
        long: bool = False,
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """The documents that the pipeline gives, in one list; `long`: it reads much, and may take its time; `fields`: those
        that it gives, where they are known."""
        database = self._shown if isinstance(fields, NaiveUtcProjection) else self._database
        async with translate_errors():
            with pymongo.timeout(_LONG_SECONDS) if long else nullcontext():
                cursor = database[collection].aggregate(list(pipeline), batchSize=_ONE_BATCH, session=session)
                found: list[Document] = await (cursor if self._motor else await cursor).to_list(None)
                return found

    async def count(
        self,
        collection: str,
        filter_: Filter,
        most: int | None = None,
        *,
        long: bool = False,
        session: Session = None,
    ) -> int:
        """How many documents match, counted up to that many; `long`: it reads much, and may take its time."""
        async with translate_errors():
            options = {} if most is None else {"limit": most}
            with pymongo.timeout(_LONG_SECONDS) if long else nullcontext():
                return int(await self._database[collection].count_documents(filter_, session=session, **options))

    async def insert(self, collection: str, documents: Sequence[Document], session: Session = None) -> None:
        """Insert them, in order, all or (in a transaction) none; DuplicateError where one is there already."""
        async with self._writing(session):
            for start in range(0, len(documents), _MOST_INSERTED):
                await self._database[collection].insert_many(documents[start : start + _MOST_INSERTED], session=session)

    async def update(self, collection: str, filter_: Filter, change: Filter, *, upsert: bool = False) -> int:
        """Change the first document that matches; how many matched or were inserted."""
        async with translate_errors(self.writes):
            result = await self._database[collection].update_one(filter_, change, upsert=upsert)
            return int(result.matched_count) + (result.upserted_id is not None)

    async def find_and_update(
        self, collection: str, filter_: Filter, change: Filter | Sequence[Filter]
    ) -> Document | None:
        """Change the document that matches, and give it as it is then; the primary's word alone is waited for."""
        async with translate_errors(self.writes):
            single = self._database[collection].with_options(write_concern=WriteConcern(1))
            found: Document | None = await single.find_one_and_update(
                filter_, change, return_document=ReturnDocument.AFTER
            )
            return found

    async def bulk(self, collection: str, operations: Sequence[Operation], session: Session = None) -> int:
        """Apply pymongo's operations, in order; how many documents were matched."""
        matched = 0
        async with self._writing(session):
            for start in range(0, len(operations), _MOST_OPERATIONS):
                some = operations[start : start + _MOST_OPERATIONS]
                matched += (await self._database[collection].bulk_write(some, session=session)).matched_count
        return matched

    async def delete(self, collection: str, filter_: Filter, session: Session = None) -> int:
        """Delete every document that matches; how many there were. Outside of a transaction it may take its time."""
        async with self._writing(session):
            with pymongo.timeout(_LONG_SECONDS) if session is None else nullcontext():
                return int((await self._database[collection].delete_many(filter_, session=session)).deleted_count)

    async def create_indexes(self, collection: str, indexes: Sequence[IndexModel]) -> None:
        """Build what is missing of these indexes; what is there stays."""
        async with translate_errors():
            with pymongo.timeout(_LONG_SECONDS):
                await self._database[collection].create_indexes(list(indexes))

    async def drop_index(self, collection: str, name: str) -> None:
        """Remove an index, if it is there."""
        try:
            async with translate_errors():
                await self._database[collection].drop_index(name)
        except OperationFailure as error:
            if error.code not in _NO_SUCH_INDEX:
                raise

    async def transaction(self, body: Callable[[Session], Awaitable[None]]) -> None:
        """Run the body in one transaction, once. TransientError: it may or may not have been stored, look before another try."""
        async with translate_errors(self.writes):
            session = await self._begin(WriteConcern("majority"))
            try:
                await body(session)
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError  # the driver swallowed it
            except BaseException as error:
                await self._abort(session, answered=not isinstance(error.__cause__ or error, _UNANSWERED))
                raise
            try:
                await _commit(session)
            except BaseException:
                self._open_transactions.end(session)  # nobody knows what became of it
                raise
            await session.end_session()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """A session whose reads all see the database as it was at the first of them."""
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
        """The inserts into those collections from now on, or after that token or position. HistoryLostError where it is
        too old, or none of this stream."""
        pipeline = [{"$match": {"ns.coll": {"$in": list(collections)}, "operationType": "insert"}}]
        position = resume_after if isinstance(resume_after, Position) else None
        start: dict[str, Any] = {"max_await_time_ms": idle_milliseconds}
        if position is not None:
            start["start_at_operation_time"] = Timestamp(*position.at)
        elif resume_after is not None:
            start["resume_after"] = {"_data": resume_after}
        async with translate_errors():
            try:
                opened = self._database.watch(pipeline, **start)
                async with opened if self._motor else await opened as stream:
                    yield InsertStream(stream, position)
            except OperationFailure as error:
                if error.code in _HISTORY_LOST:
                    raise HistoryLostError(str(error)) from error
                raise

    def _writing(self, session: Session) -> "translate_errors":
        """Around a write; within a transaction it is the commit that says whether it went through."""
        return translate_errors(self.writes if session is None else None)

    async def _begin(self, write_concern: WriteConcern | None = None) -> Session:
        session = self._client.start_session()
        if self._motor:
            session = await session
        begun = session.start_transaction(write_concern=write_concern, read_concern=ReadConcern("snapshot"))
        if not self._motor:
            await begun
        return session

    async def _abort(self, session: Session, *, answered: bool) -> None:
        """Abort and end the session; in the background where the server does not answer, for its locks must go."""
        if not answered:
            self._open_transactions.end(session)
            return
        try:
            # The session's own abort_transaction says nothing where it does not arrive.
            with suppress(OperationFailure):
                await self._client.admin.command("abortTransaction", session=session)
        except BaseException as error:
            self._open_transactions.end(session)
            if not isinstance(error, PyMongoError):  # else what stopped the body is what counts
                raise
        else:
            await session.end_session()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream: just after the document with that id, which was inserted at that time of the cluster.

    A token leads there too, but MongoDB's may have hundreds of bytes: what callers keep has none."""

    id: str
    token: str | None = field(compare=False)
    at: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Insert:
    """One document that was inserted, as it was then, and the token that leads to what comes after it."""

    collection: str
    document: Document
    token: str
    at: tuple[int, int]  # the cluster's time: tokens do not sort, these do; one transaction's inserts share it


class InsertStream:
    """An open stream of inserts, in the order of their commits; of one that was opened at a position's time those after it."""

    def __init__(self, stream: Any, position: Position | None = None) -> None:
        self._stream = stream
        self._position = position

    async def next(self) -> Insert | None:
        """The next one; None where none came for a while. HistoryLostError where the position is not in the stream."""
        while (insert := await self._read()) is not None and self._position is not None:
            self._pass(insert, self._position)
        return insert

    def _pass(self, insert: Insert, position: Position) -> None:
        """Leave out what comes up to the position: all of it was inserted at the position's time."""
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


class translate_errors:  # noqa: N801 - it is used as the context managers of the standard library are
    """Errors of either driver in the gateway's words; and a cancellation that the driver forgot, raised again. `writes`:
    what records whether the write within went through."""

    __slots__ = ("_writes",)

    def __init__(self, writes: WriteHealth | None = None) -> None:
        self._writes = writes

    async def __aenter__(self) -> None:
        """Begin."""

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        """Raise what the driver's error means."""
        if self._writes is not None:
            self._record(self._writes, error)
        if error is None or isinstance(error, PyMongoError):
            _reraise_cancellation()
        if isinstance(error, Exception) and (meant := _to_gateway_error(error)) is not None:
            raise meant from error

    @staticmethod
    def _record(writes: WriteHealth, error: BaseException | None) -> None:
        if error is None:
            writes.succeeded()
        elif (
            isinstance(error, FaultError) or isinstance(error.__cause__ or error, ConnectionFailure) or _is_fault(error)
        ):
            writes.failed()


def _to_gateway_error(error: Exception) -> Exception | None:
    """What an error of the driver's means; None where it means itself."""
    if isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError):
        return UnavailableError()
    if isinstance(error, DuplicateKeyError):
        return DuplicateError()
    if isinstance(error, ConnectionFailure | ProtocolError):
        return TransientError()
    if isinstance(error, UnicodeEncodeError):
        # What is stored was checked; this is a text that something is looked up by.
        return BadRequestError("A text contains a lone surrogate, which is no character: send whole characters.")
    return _translated_by_codes(error) if isinstance(error, PyMongoError) else None


def _translated_by_codes(error: PyMongoError) -> Exception | None:
    """What an answer of the server means; None where it is about the request, so that another try would end alike."""
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
    """End here where the task was cancelled meanwhile: PyMongo Async writes within `asyncio.wait_for`, which on Python 3.11
    forgets a cancellation that comes together with the end, or the failure, of what it waits for; the task would go on
    for ever."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


_UNKNOWN_COMMIT = "UnknownTransactionCommitResult"
_TRANSIENT_LABELS = ("TransientTransactionError", _UNKNOWN_COMMIT, "RetryableWriteError")
# After these nobody knows what the server did, or is still doing.
_UNANSWERED = (ConnectionFailure, ProtocolError, asyncio.CancelledError)
_NO_SUCH_INDEX = frozenset({26, 27})  # nor such a collection


def _codes(error: PyMongoError) -> set[int]:
    """Every code that an error carries, in itself or for single writes."""
    details = getattr(error, "details", None) or {}
    inner = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    return {code for code in (getattr(error, "code", None), *(item.get("code") for item in inner)) if code is not None}


def _is_fault(error: BaseException) -> bool:
    """Whether the server says that it is unwell, or that too few of its replica set took a write."""
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
