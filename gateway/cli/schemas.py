"""The command that prints the schema."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import StartupError
from schema.root import build_schema

cli = typer.Typer()


@cli.command("export-schema")
def export_schema(
    check: Annotated[Path | None, typer.Option(help="Fail if this file differs from the schema.")] = None,
) -> None:
    """Print the public schema."""
    text = build_schema().as_str() + "\n"
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text() != text:
        raise StartupError(f"{check} is not the schema of this version: run 'make sdl'.")
