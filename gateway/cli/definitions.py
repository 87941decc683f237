"""Commands on definitions."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from gateway.cli.commands import DATA, DEFAULT_DATA, print_line
from gateway.cli.runtimes import with_runtime
from gateway.runtime import Runtime, running

cli = typer.Typer(no_args_is_help=True, help="Rebuild the totals of event definitions.")


@cli.command("definitions")
def rebuild_definitions(
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="The id or name of the workspace. Default: every workspace.")
    ] = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Rebuild the totals of all event names from the stored events. Gateways can keep running."""

    async def run(runtime: Runtime) -> None:
        workspaces = [await runtime.workspaces.find(workspace)] if workspace else await runtime.workspaces.all()
        ids = [row["_id"] for row in workspaces]
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("Counting", total=len(ids))
            async with running(runtime.definitions.run()):
                async for _ in runtime.definitions.rebuild(ids):
                    bar.advance(task)
        print_line(f"Rebuilt the definitions of {len(ids)} workspaces.")

    with_runtime(run, data)
