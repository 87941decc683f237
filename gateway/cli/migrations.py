"""The command that makes a database ready to be served."""

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, owner, print_line
from gateway.cli.databases import with_database
from gateway.core.clock import system_clock
from gateway.store import migrations
from gateway.store.driver import Database

cli = typer.Typer()


@cli.command()
def migrate(data: DATA = DEFAULT_DATA) -> None:
    """Build the indexes and run the migrations of this version. It is safe to repeat, and to run in several processes."""

    async def run(database: Database) -> None:
        done = await migrations.migrate(database, system_clock, owner=owner())
        print_line(
            "\n".join(f"{step.number:04} {step.name}" for step in done)
            or "Nothing to migrate: the database is up to date."
        )

    with_database(run, data)
