"""What a ticket's number costs: one counter in the transaction of each ticket, by one process and by two, with turns and without."""

import asyncio
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from pymongo import UpdateOne

from gateway.settings import Settings
from gateway.store.driver import Database
from gateway.store.embedded import embedded_server
from gateway.store.retries import retry_transaction


async def measure(uri: str, name: str, processes: int, tickets: int, *, turns: bool) -> None:
    """Store tickets, all at once, and say how many attempts it took."""
    databases = [Database(uri, name, Settings()) for _ in range(processes)]
    locks = [asyncio.Lock() for _ in databases]
    attempts = 0
    await databases[0].insert("tickets", [{"_id": "first"}])

    async def create(number: int) -> None:
        database = databases[number % processes]

        async def attempt(_: int) -> None:
            nonlocal attempts
            attempts += 1

            async def store(session: object) -> None:
                counting = UpdateOne({"_id": "counter"}, {"$inc": {"number": 1}}, upsert=True)
                await database.bulk("numbers", [counting], session)
                (counter,) = await database.find("numbers", {"_id": "counter"}, session=session)
                ticket = {"_id": f"ticket {number}", "number": counter["number"]}
                await database.insert("tickets", [ticket], session)

            await database.transaction(store)

        async with locks[number % processes] if turns else nullcontext():
            await retry_transaction(attempt)

    begun = time.perf_counter()
    await asyncio.gather(*(create(number) for number in range(tickets)))
    seconds = time.perf_counter() - begun
    numbers = sorted(row["number"] for row in await databases[0].find("tickets", {}) if "number" in row)
    if numbers != list(range(1, tickets + 1)):
        raise SystemExit(f"Numbers with gaps or repeats: {numbers}")
    how = "with turns" if turns else "without turns"
    print(f"{processes} processes {how}: {tickets} tickets, {attempts} attempts, {tickets / seconds:.0f} a second")
    for database in databases:
        await database.close()


async def main() -> None:
    """The three cases, on the embedded server."""
    with tempfile.TemporaryDirectory() as folder:
        async with embedded_server(Path(folder), "secantusd-py") as uri:
            await measure(uri, "one", 1, 200, turns=True)
            await measure(uri, "two", 2, 200, turns=True)
            await measure(uri, "free", 2, 50, turns=False)


if __name__ == "__main__":
    asyncio.run(main())
