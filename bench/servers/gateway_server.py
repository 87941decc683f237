"""The gateway as `gateway serve` runs it, on a database that is named by the environment, with one key that lives in this process.

gateway_server.py WORKSPACE database|memory|alone still|moving PORT
"""

import asyncio
import cProfile
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import uvicorn
import uvloop

from bench.data import DATABASE, Clock, bearer
from gateway.app import create_app
from gateway.core.clock import system_clock
from gateway.observability import configure_logs
from gateway.runtime import background_tasks, open_runtime, tune_gc
from gateway.server.uvicorn_options import server_options
from gateway.services.events.tracking import EventService
from gateway.settings import load_settings
from gateway.store.driver import Database


def remember(database: Database) -> None:
    """Answer what was read before from memory: the documents themselves, as the driver gave them."""
    find, aggregate, known = database.find, database.aggregate, {}

    async def found(collection: str, filter_: Mapping[str, Any], **options: Any) -> list[Any]:
        key = repr((collection, filter_, options))
        if key not in known:
            known[key] = await find(collection, filter_, **options)
        return known[key]

    async def aggregated(
        collection: str, pipeline: Sequence[Mapping[str, Any]], *rest: Any, **options: Any
    ) -> list[Any]:
        key = repr((collection, pipeline))
        if key not in known:
            known[key] = await aggregate(collection, pipeline, *rest, **options)
        return known[key]

    database.find, database.aggregate = found, aggregated  # type: ignore[method-assign, assignment]


def commit_alone(events: EventService) -> None:
    """A transaction of its own for each call, in the place of group commit."""
    events._groups.submit = lambda workspace_id, items: events._store_group(workspace_id, items, False)  # type: ignore[method-assign, assignment]


async def serve(workspace_id: str, documents: str, time: str, port: int) -> None:
    """Serve until terminated."""
    settings = load_settings()
    configure_logs(settings.log_level, json=True)
    clock = Clock() if time == "still" else system_clock
    uri, name = os.environ["BENCH_URI"], os.environ.get("BENCH_DATABASE", DATABASE)
    async with open_runtime(settings, uri, name, clock=clock) as runtime:
        if documents == "memory":
            remember(runtime.database)
        if documents == "alone":
            commit_alone(runtime.services.events)
        async with background_tasks(runtime) if time == "moving" else nullcontext():
            app = create_app(runtime, runtime.authenticator(bearer(workspace_id)))
            tune_gc()
            config = uvicorn.Config(
                app,
                port=port,
                access_log=False,
                **server_options(settings),
            )
            await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    profiler = cProfile.Profile() if "BENCH_PROFILE" in os.environ else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it anew when it has ended
    try:
        with profiler or nullcontext():
            asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    finally:
        if profiler is not None:
            profiler.dump_stats(os.environ["BENCH_PROFILE"])
