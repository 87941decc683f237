"""Indexes and numbered migrations: recorded, idempotent, run by one process at a time."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psutil
import tenacity

from gateway.core.clock import Clock
from gateway.core.leases import is_held
from gateway.domain.support import conversations, tickets
from gateway.domain.support.conversations import ConversationAggregate
from gateway.domain.support.documents import T
from gateway.domain.support.threads import ThreadAggregate, public_words
from gateway.domain.support.tickets import TicketAggregate
from gateway.errors import StartupError, UnavailableError
from gateway.store.contacts.contacts import Contacts
from gateway.store.deployment import CURSORS, DeploymentSecrets
from gateway.store.driver import Database, Document, DuplicateError
from gateway.store.events.events import EventSummaries
from gateway.store.rate_limits import RateLimitCounters
from gateway.store.support.conversations import ConversationParts, Conversations
from gateway.store.support.inboxes import Inbox
from gateway.store.support.threads import Parts
from gateway.store.support.tickets import TicketParts, Tickets
from gateway.store.workspace_store import REPOSITORIES
from gateway.store.workspaces import Keys, Workspaces

COLLECTION = "migrations"
_LOCK = "lock"
_LEASE = timedelta(seconds=30)
_THREADS_AT_ONCE = 100  # whose parts are read together


@dataclass(frozen=True, slots=True)
class Migration:
    """One step that every database takes once. `run` must be idempotent: it runs again after a crash.

    `if_empty`: whether an empty database needs it, too, beyond the indexes."""

    number: int
    name: str
    run: Callable[[Database], Awaitable[None]]
    if_empty: bool = False


async def build_indexes(database: Database) -> None:
    """Build every declared index that is missing."""
    declared = [(Workspaces.COLLECTION, Workspaces.INDEXES), (Keys.COLLECTION, Keys.INDEXES)]
    declared += [(RateLimitCounters.COLLECTION, RateLimitCounters.INDEXES)]
    declared += [(repository.COLLECTION, repository.INDEXES) for repository in (*REPOSITORIES, *database.repositories)]
    for collection, indexes in declared:
        await database.create_indexes(collection, indexes)


async def find_contacts_by_terms(database: Database) -> None:
    """Set the index terms of contacts, and drop an index that a longer one replaces."""
    await build_indexes(database)
    for workspace in await Workspaces(database).all():
        await Contacts(database, workspace["_id"]).set_terms()
    await database.drop_index(EventSummaries.COLLECTION, "name")


async def list_in_every_order(database: Database) -> None:
    """Set the sort keys of conversations and tickets, and drop the indexes that they replace."""
    for workspace in await Workspaces(database).all():
        await Conversations(database, workspace["_id"]).set_index_keys(
            conversations.EVERYTHING, conversations.index_keys_of
        )
        await Tickets(database, workspace["_id"]).set_index_keys(tickets.list_key("any", "", ""), tickets.index_keys_of)
    for field in ("updated_at", "waiting_since", "sla_due_at"):
        await database.drop_index(Conversations.COLLECTION, f"lists_by_{field}")


async def separate_words_of_parts(database: Database) -> None:
    """Set the words of conversations and tickets that contacts see now, without those of earlier titles."""
    for workspace in await Workspaces(database).all():
        id_ = workspace["_id"]
        await _separate_words(
            Conversations(database, id_),
            ConversationParts(database, id_),
            conversations.EVERYTHING,
            ConversationAggregate,
        )
        await _separate_words(
            Tickets(database, id_), TicketParts(database, id_), tickets.list_key("any", "", ""), TicketAggregate
        )


async def _separate_words(threads: Inbox[T], parts: Parts, list_: str, aggregate: type[ThreadAggregate[T]]) -> None:
    async def words_of(rows: Sequence[T]) -> list[dict[str, list[str]]]:
        said = await parts.said_words([row["_id"] for row in rows])
        return [
            {"said_words": said[row["_id"]], "public_words": public_words(aggregate.shown_texts(row), said[row["_id"]])}
            for row in rows
        ]

    await threads.set_each(list_, words_of, _THREADS_AT_ONCE)


async def make_cursor_secret(database: Database) -> None:
    """Create the secret that encrypts cursors when GATEWAY_SECRET_KEY is not set."""
    await DeploymentSecrets(database).get(CURSORS)


MIGRATIONS = (
    Migration(1, "collections and indexes", build_indexes),
    Migration(2, "values of events, totals by name", build_indexes),
    Migration(3, "contacts by terms, summaries by count", find_contacts_by_terms),
    Migration(4, "deliveries", build_indexes),
    Migration(5, "tombstones of events", build_indexes),
    Migration(6, "lists in every order", list_in_every_order),
    Migration(7, "secret of cursors", make_cursor_secret, if_empty=True),
    Migration(8, "words that contacts see", separate_words_of_parts),
)


async def migrate(database: Database, clock: Clock, *, owner: str, patience: float = 60) -> list[Migration]:
    """Run the pending migrations, under a lock, and return them. An empty database gets its indexes, and all numbers
    are recorded."""
    await database.check_deployment()
    async with _locked(database, owner, patience):
        is_empty = await database.collections() <= {COLLECTION}
        await build_indexes(database)
        pending = await pending_migrations(database)
        for step in pending:
            if step.if_empty or not is_empty:  # an empty database has its indexes now, and no document to change
                await step.run(database)
            await database.update(
                COLLECTION, {"_id": step.number}, {"$set": {"name": step.name, "at": clock()}}, upsert=True
            )
        return pending


async def pending_migrations(database: Database) -> list[Migration]:
    """The migrations that this database has not recorded."""
    done = {row["_id"] for row in await database.find(COLLECTION, {})}
    return [step for step in MIGRATIONS if step.number not in done]


async def probe(database: Database, now: datetime) -> None:
    """Pass if the database can be written: on a full disk, reads still work."""
    await database.update("probes", {"_id": "readyz"}, {"$set": {"at": now}}, upsert=True)


class _LockedError(Exception):
    """Another process holds the lock."""


@asynccontextmanager
async def _locked(database: Database, owner: str, patience: float) -> AsyncIterator[None]:
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(_LockedError),
        wait=tenacity.wait_random(0.05, 0.2),
        stop=tenacity.stop_after_delay(patience),
        reraise=True,
    )
    try:
        await attempts(_take_lock, database, owner)
    except _LockedError:
        raise StartupError(
            f"Another process has been migrating the database for more than {patience:g} seconds: wait for it, then try again."
        ) from None
    renewing = asyncio.create_task(_renew_lock(database, owner))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        await database.delete(COLLECTION, {"_id": _LOCK, "owner": owner})


async def _take_lock(database: Database, owner: str) -> None:
    now = await database.now()
    lease: Document = {"owner": owner, "until": now + _LEASE}
    try:
        await database.insert(COLLECTION, [{"_id": _LOCK, **lease}])
    except DuplicateError:
        lock = await database.find_one(COLLECTION, {"_id": _LOCK}) or lease
        if is_held(lock["until"], now, _LEASE) and not _is_dead(lock["owner"]):
            raise _LockedError from None
        if not await database.update(COLLECTION, {"_id": _LOCK, "until": lock["until"]}, {"$set": lease}):
            raise _LockedError from None


async def _renew_lock(database: Database, owner: str) -> None:
    while True:
        await asyncio.sleep(_LEASE.total_seconds() / 3)
        with contextlib.suppress(UnavailableError):
            until = await database.now() + _LEASE
            await database.update(COLLECTION, {"_id": _LOCK, "owner": owner}, {"$set": {"until": until}})


def _is_dead(owner: str) -> bool:
    """Whether the owner, `host:process id`, was a process of this machine that has ended."""
    host, _, process = owner.rpartition(":")
    return host == socket.gethostname() and process.isdigit() and not psutil.pid_exists(int(process))
