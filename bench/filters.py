"""What each query of docs/filters.md reads, among more and more contacts: prints the table of docs/costs-of-filters.md.

nice .venv/bin/python bench/filters.py [SERVER [CONTACTS ...]]      (default: secantusd-py 1000 10000)
"""

import asyncio
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pymongo.monitoring import CommandListener

from gateway.app import create_app
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal, Scope
from gateway.core.typed_values import typed_metadata
from gateway.domain.contacts.contacts import ContactDraft, ContactRef, ContactRole, identities_of, new_contact
from gateway.domain.events.events import PlannedEvent, TrackEvent, add_to_summary, event_document
from gateway.runtime import Runtime, open_runtime
from gateway.settings import Settings
from gateway.store.driver import Database, Document, Session
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate
from gateway.store.workspace_store import WorkspaceStore

PAGE = Path(__file__).parents[1] / "docs" / "filters.md"
KEY = "a-key-for-the-bench"
AT_ONCE = 500
READS = ("find", "aggregate", "count")
# Of a hundred contacts, how many did it, and how often at most.
DID = {"created report": (10, 4), "viewed pricing": (5, 6), "added to cart": (8, 2), "viewed page": (30, 3)}


class Reads(CommandListener):
    """The reads of one query, each with how many documents it brought."""

    def __init__(self) -> None:
        self.commands: dict[int, Document] = {}
        self.brought: dict[int, int] = {}

    def started(self, event: Any) -> None:
        """Keep a read."""
        if event.command_name in READS:
            self.commands[event.request_id] = dict(event.command)

    def succeeded(self, event: Any) -> None:
        """Keep how many documents came."""
        if event.request_id in self.commands:
            self.brought[event.request_id] = len(event.reply.get("cursor", {}).get("firstBatch", ()))

    def failed(self, event: Any) -> None:
        """It brought nothing."""


async def main(server: str, sizes: Sequence[int]) -> None:
    """Ask every query at every size, and print what was examined."""
    queries = documented()
    found: dict[str, list[int]] = {query: [] for query in queries}
    with tempfile.TemporaryDirectory() as folder:
        async with embedded_server(Path(folder), server) as uri:
            for size in sizes:
                reads = Reads()
                settings = Settings(max_cost=100_000_000, rate_limit="0", mongo_timeout_seconds=60)
                async with open_runtime(settings, uri, f"bench_{size}", listeners=[reads]) as runtime:
                    await migrate(runtime.database, runtime.clock, owner="bench")
                    workspace = await runtime.workspaces.create("bench")
                    await fill(runtime.services.store.open(workspace["_id"]), size, runtime.clock())
                    for query in queries:
                        found[query].append(await examined(runtime, workspace["_id"], query, reads))
    print(f"| query | {' | '.join(f'{size:,}' for size in sizes)} |")
    print(f"| --- | {' | '.join('---:' for _ in sizes)} |")
    for query, counts in found.items():
        print(f"| `{shortened(query)}` | {' | '.join(f'{count:,}' for count in counts)} |")
    print(f"\nDocuments examined on {Path(server).name}.")


def documented() -> list[str]:
    """The queries of the page, in their order."""
    return re.findall(r"```graphql\n(.*?)```", PAGE.read_text(), flags=re.S)


def shortened(query: str) -> str:
    """The arguments of its list, and totalCount where it is asked for."""
    one_line = " ".join(query.split())
    name, _, rest = one_line.removeprefix("{ ").partition("(")
    arguments, _, fields = rest.partition(") {")
    asked = arguments.removeprefix("filter: ") if name == "contacts" else f"{name}({arguments})"
    return asked + (" totalCount" if "totalCount" in fields else "")


async def fill(store: WorkspaceStore, size: int, now: datetime) -> None:
    """So many contacts, created in the last year, and what they did in the last 60 days."""
    chance, minter = random.Random(size), Minter()
    for start in range(0, size, AT_ONCE):
        drafts = [person(store.workspace_id, number, chance, minter, now) for number in range(start, start + AT_ONCE)]
        events = [event for draft in drafts for event in deeds(draft, chance, minter, now)]

        async def write(session: Session, drafts: list[ContactDraft] = drafts, events: list[Document] = events) -> None:
            await store.contacts.save(drafts, session)
            await store.events.insert(events, session)
            await store.summaries.add(add_to_summary(events), session)

        await store.database.transaction(write)


def person(workspace_id: str, number: int, chance: random.Random, minter: Minter, now: datetime) -> ContactDraft:
    """Somebody new."""
    at = now - timedelta(days=365 * chance.random())
    contact = new_contact(minter.mint(Prefix.CONTACT, at), workspace_id, at)
    contact |= {"external_id": f"u{number}", "role": ContactRole.USER.value, "name": f"Person {number}"}
    contact["tags"] = [tag for tag, percent in (("vip", 1), ("beta", 3)) if happens(chance, percent)]
    contact["location"] = {"country": chance.choice(["DE", "FR", "ES", "PT", "IT", "NL", "BE", "AT", "CH", "PL"])}
    contact["custom_attributes"] = {"plan": "pro" if happens(chance, 20) else "free"}
    contact["last_seen_at"] = now - timedelta(days=90 * chance.random())
    if happens(chance, 70):
        contact["signed_up_at"] = now - timedelta(days=60 * chance.random())
    contact["identities"] = identities_of(contact)
    return ContactDraft(contact, None)


def deeds(draft: ContactDraft, chance: random.Random, minter: Minter, now: datetime) -> list[Document]:
    """What somebody did; half of those with a cart buy."""
    names = [
        name for name, (percent, most) in DID.items() if happens(chance, percent) for _ in range(dice(chance, most))
    ]
    if "added to cart" in names and happens(chance, 50):
        names.append("bought")
    return [deed(draft, name, now - timedelta(days=60 * chance.random()), chance, minter) for name in names]


def deed(draft: ContactDraft, name: str, at: datetime, chance: random.Random, minter: Minter) -> Document:
    """One event; a page that is viewed has an address and a price."""
    page, cents = chance.choice(["pricing", "docs", "home", "blog"]), chance.choice([999, 4999])
    metadata = {"url": f"https://shop.example/{page}", "price": {"amount": cents, "currency": "USD"}}
    metadata = metadata if name == "viewed page" else {}
    command = TrackEvent(ContactRef(id=draft.id), name, at, metadata, typed_metadata(metadata))
    return event_document(PlannedEvent(command, minter.mint(Prefix.EVENT, at), at, at), draft)


def happens(chance: random.Random, percent: int) -> bool:
    """Whether one of the hundred is it."""
    return chance.randrange(100) < percent


def dice(chance: random.Random, most: int) -> int:
    """From 1 to that many."""
    return chance.randint(1, most)


async def examined(runtime: Runtime, workspace_id: str, query: str, reads: Reads) -> int:
    """How many documents the server looked at for the query."""
    principal = Principal("bench", workspace_id, frozenset(Scope))
    app = create_app(runtime, runtime.authenticator({KEY: principal}))
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", headers=headers) as http:
        reads.commands.clear()
        answer = (await http.post("/graphql", json={"query": query}, timeout=600)).json()
    if "errors" in answer:
        raise SystemExit(f"{query}: {answer['errors']}")
    asked = [*reads.commands.items()]
    return sum([await examined_by(runtime.database, command, reads.brought.get(id_, 0)) for id_, command in asked])


async def examined_by(database: Database, command: Document, brought: int) -> int:
    """What the executed plan says; of an aggregation that looks up children, the parents', and each child it brought."""
    names = {"find", "filter", "sort", "limit", "aggregate", "pipeline", "cursor", "count", "query"}
    asked = {name: value for name, value in command.items() if name in names}
    looks_up = [place for place, stage in enumerate(command.get("pipeline", ())) if "$lookup" in stage]
    if looks_up:
        asked["pipeline"] = command["pipeline"][: looks_up[0]]
    told = await database._database.command("explain", asked, verbosity="executionStats")
    if "stages" in told:
        told = told["stages"][0]["$cursor"]
    plan = int(told["executionStats"]["totalDocsExamined"])
    return plan + (brought if looks_up else 0)


if __name__ == "__main__":
    server_, *sizes_ = sys.argv[1:] or ["secantusd-py"]
    asyncio.run(main(server_, [int(size) for size in sizes_] or [1000, 10_000]))
