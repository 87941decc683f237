"""What group commit is worth: 50 clients that track 5 contacts, with it and without, in turn. Prints decision 4's figures.

.venv/bin/python bench/tracking.py [SERVER]      (the embedded server's executable; default: secantusd-py)
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gateway.domain.events.events import TrackEvent, track_event
from gateway.runtime import Runtime, open_runtime
from gateway.services.events.group_commit import LARGEST_GROUP
from gateway.settings import Settings
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate
from gateway.store.retries import retry_transaction

CLIENTS, EACH, CONTACTS, ROUNDS = 50, 6, 5, 3


async def main(server: str) -> None:
    """Measure both ways in turn, and print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        async with embedded_server(Path(folder), server) as uri, open_runtime(Settings(), uri, "bench") as runtime:
            await migrate(runtime.database, runtime.clock, owner="bench")
            took: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for number in range(ROUNDS):
                for grouped in (True, False):
                    took[grouped].append(await measure(runtime, f"{number}-{grouped}", grouped=grouped))
    rates = {grouped: statistics.median(rate for rate, _ in found) for grouped, found in took.items()}
    for grouped, found in took.items():
        slowest = statistics.median(late for _, late in found)
        print(
            f"{'with' if grouped else 'without'} group commit: {rates[grouped]:.0f} events/s, slowest call {slowest:.2f} s"
        )
    print(f"ratio {rates[True] / rates[False]:.1f} (groups of up to {LARGEST_GROUP}; {Path(server).name})")


async def measure(runtime: Runtime, name: str, *, grouped: bool) -> tuple[float, float]:
    """Events per second, and how long the slowest call took."""
    workspace = await runtime.workspaces.create(name)
    service, chance, calls = runtime.services.events, random.Random(1), []

    async def alone(command: TrackEvent) -> object:
        now, store = runtime.clock(), runtime.services.store.open(workspace["_id"])
        attempted = [service._planned(command, now)]
        return await retry_transaction(lambda number: service._attempt(store, attempted, now, number > 1))

    async def client() -> None:
        for _ in range(EACH):
            sent = {"contact": {"external_id": f"u{chance.randrange(CONTACTS)}"}, "name": "tracked"}
            command, began = track_event(sent, runtime.services.settings, runtime.clock()), time.perf_counter()
            await (service.track(workspace["_id"], [command]) if grouped else alone(command))
            calls.append(time.perf_counter() - began)

    await service.track(
        workspace["_id"],
        [
            track_event(
                {"contact": {"external_id": f"u{n}"}, "name": "tracked"}, runtime.services.settings, runtime.clock()
            )
            for n in range(CONTACTS)
        ],
    )
    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return CLIENTS * EACH / (time.perf_counter() - began), max(calls)


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["secantusd-py"])))
