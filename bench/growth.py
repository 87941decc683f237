"""Growth: what is asked of ten thousand, a hundred thousand and a million events, as documents examined and as the gateway's CPU."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from rich.progress import Progress

from bench.data import KEY, NOW, Clock, bearer
from bench.filters import Reads, examined_by
from bench.rounds import Line
from gateway.app import create_app
from gateway.core.ids import Minter, Prefix
from gateway.core.typed_values import typed_metadata
from gateway.domain.contacts.contacts import ContactDraft, ContactRef, ContactRole, identities_of, new_contact
from gateway.domain.events.events import PlannedEvent, TrackEvent, add_to_summary, event_document
from gateway.runtime import Runtime, open_runtime
from gateway.settings import Settings
from gateway.store.driver import Document, Session
from gateway.store.migrations import migrate
from gateway.store.workspace_store import WorkspaceStore

SMALLEST, FACTOR = 10_000, 10
EVENTS_EACH = 10  # of a contact
_AT_ONCE = 200  # contacts
_RARE = 50  # contacts, however many there are, who did what few do
_MOST = 1.5
# What reads by key or within a window, whose time the embedded servers can hold too; of the others documents count.
_KEYED = frozenset({"page of the workspace's events", "contact's timeline", "contact's summaries", "trackEvent"})


@dataclass(frozen=True, slots=True)
class Stored:
    """A gateway in this process, on a database with so many events."""

    events: int
    runtime: Runtime
    http: httpx.AsyncClient
    reads: Reads

    async def ask(self, query: str) -> None:
        """Ask once."""
        answer = (await self.http.post("/graphql", json={"query": query}, timeout=600)).json()
        if "errors" in answer:
            raise SystemExit(f"{query}: {answer['errors']}")

    async def examined(self, query: str) -> int:
        """How many documents the server looks at for it, by its own plans."""
        self.reads.commands.clear()
        await self.ask(query)
        asked = [*self.reads.commands.items()]
        database = self.runtime.database
        return sum([await examined_by(database, command, self.reads.brought.get(id_, 0)) for id_, command in asked])


async def measure(uri: str, rounds: int, largest: int, progress: Progress) -> list[Line]:
    """The lines of every question, each beside the smallest database's."""
    sizes = [SMALLEST]
    while sizes[-1] * FACTOR <= largest:
        sizes.append(sizes[-1] * FACTOR)
    async with AsyncExitStack() as stack:
        stored = [await _stored(stack, uri, size, progress) for size in sizes]
        told: list[Line] = []
        for what, query in _questions().items():
            seconds: dict[int, list[float]] = {size: [] for size in sizes}
            for number in range(rounds + 1):
                for one in stored:
                    began = time.perf_counter()
                    await one.ask(query.replace("ROUND", f"{number}"))
                    if number:
                        seconds[one.events].append(time.perf_counter() - began)
            looked = {one.events: await one.examined(query.replace("ROUND", "examined")) for one in stored}
            told += _documents(what, looked) + _times(what, seconds)
        return told


def _questions() -> dict[str, str]:
    someone = 'contact(by: {externalId: "user-7"})'
    return {
        "page of the workspace's events": "{ events(first: 20) { nodes { id name occurredAt } } }",
        "contact's timeline": f"{{ {someone} {{ events(first: 20) {{ nodes {{ id name occurredAt }} }} }} }}",
        "contact's summaries": f"{{ {someone} {{ eventSummaries(first: 20) {{ nodes {{ name count lastAt }} }} }} }}",
        "contacts by a filter": '{ contacts(first: 20, filter: {event: {name: "joined beta", count: {gte: 1}}}) { nodes { id } } }',
        "topContacts": '{ topContacts(event: "joined beta", first: 10) { count } }',
        "trackEvent": 'mutation { trackEvent(input: {contact: {externalId: "user-7"}, name: "viewed page", '
        'idempotencyKey: "growth-ROUND"}) { duplicate } }',
    }


def _documents(what: str, looked: dict[int, int]) -> list[Line]:
    least = looked[SMALLEST]
    return [
        _line(what, f"{size:,} events", float(count), "documents examined", count / max(1, least), size)
        for size, count in looked.items()
    ]


def _times(what: str, seconds: dict[int, list[float]]) -> list[Line]:
    medians = {size: statistics.median(each) * 1000 for size, each in seconds.items()}
    told = []
    for size, median in medians.items():
        ratios = [one / other for one, other in zip(seconds[size], seconds[SMALLEST], strict=True)]
        ratio = statistics.median(ratios)
        line = _line(f"{what}: time", f"{size:,} events", median, "ms", ratio, size, what in _KEYED)
        told.append(Line(**{**line.document, "least": min(ratios), "most": max(ratios)}))  # type: ignore[arg-type]
    return told


def _line(what: str, way: str, cost: float, unit: str, ratio: float, size: int, judged: bool = True) -> Line:
    target = f"at most {_MOST} x" if judged and size > SMALLEST else None
    reached = None if target is None else ratio <= _MOST
    beside = f"{SMALLEST:,} events"
    return Line("growth", what, way, cost, unit, beside, ratio, ratio, ratio, target=target, reached=reached)


async def _stored(stack: AsyncExitStack, uri: str, size: int, progress: Progress) -> Stored:
    reads, clock = Reads(), Clock()
    settings = Settings(rate_limit="0", mongo_timeout_seconds=60, log_level="WARNING")
    runtime = await stack.enter_async_context(
        open_runtime(settings, uri, f"growth_{size}", clock=clock, listeners=[reads])
    )
    await migrate(runtime.database, runtime.clock, owner="bench")
    workspace_id = (await runtime.workspaces.create("bench"))["_id"]
    await _fill(runtime.services.store.open(workspace_id), size, progress)
    app = create_app(runtime, runtime.authenticator(bearer(workspace_id)))
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://bench", headers={"authorization": f"Bearer {KEY}"}
    )
    return Stored(size, runtime, await stack.enter_async_context(http), reads)


async def _fill(store: WorkspaceStore, size: int, progress: Progress) -> None:
    """So many events, evenly over the last thirty days, ten of each contact."""
    minter, people = Minter(), size // EVENTS_EACH
    task = progress.add_task(f"{size:,} events", total=size)
    for start in range(0, people, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, people))
        drafts = [_person(store.workspace_id, number, people, minter) for number in numbers]
        events = [
            event
            for number, draft in zip(numbers, drafts, strict=True)
            for event in _deeds(draft, number, people, minter)
        ]
        await store.database.transaction(_writer(store, drafts, events))
        progress.advance(task, len(events))
        await asyncio.sleep(0)
    await store.definitions.insert_names({"viewed page": None, "joined beta": None}, NOW, None)
    progress.remove_task(task)


def _writer(store: WorkspaceStore, drafts: Sequence[ContactDraft], events: Sequence[Document]) -> Any:
    async def write(session: Session) -> None:
        await store.contacts.save(drafts, session)
        await store.events.insert(events, session)
        await store.summaries.add(add_to_summary(events), session)

    return write


def _person(workspace_id: str, number: int, people: int, minter: Minter) -> ContactDraft:
    at = NOW - timedelta(days=40) + timedelta(days=5) * number / people
    contact = new_contact(minter.mint(Prefix.CONTACT, at), workspace_id, at)
    contact |= {"external_id": f"user-{number}", "role": ContactRole.USER.value, "name": f"Person {number}"}
    contact["identities"] = identities_of(contact)
    return ContactDraft(contact, None)


def _deeds(draft: ContactDraft, number: int, people: int, minter: Minter) -> list[Document]:
    names = [
        "joined beta" if number % max(1, people // _RARE) == 0 else "viewed page",
        *["viewed page"] * (EVENTS_EACH - 1),
    ]
    return [
        _deed(draft, name, (number * EVENTS_EACH + place) / (people * EVENTS_EACH), minter)
        for place, name in enumerate(names)
    ]


def _deed(draft: ContactDraft, name: str, part: float, minter: Minter) -> Document:
    at = (NOW - timedelta(days=30) + timedelta(days=30) * part).replace(microsecond=0)
    metadata = {"page": "/pricing"}
    command = TrackEvent(ContactRef(id=draft.id), name, at, metadata, typed_metadata(metadata))
    return event_document(PlannedEvent(command, minter.mint(Prefix.EVENT, at), at, at), draft)
