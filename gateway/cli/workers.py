"""The command that works in the background."""

import asyncio

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, print_line
from gateway.cli.runtimes import with_runtime
from gateway.runtime import Runtime, background_tasks

cli = typer.Typer()


@cli.command()
def worker(data: DATA = DEFAULT_DATA) -> None:
    """Send deliveries and finish long-running work until stopped. Several workers share the work."""

    async def run(runtime: Runtime) -> None:
        async with background_tasks(runtime, delivers=True):
            print_line("The worker is running. Stop it with Ctrl-C.")
            await asyncio.Event().wait()

    with_runtime(run, data, json_logs=True)
