"""The command line: parse, build the settings, call one function."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from gateway.errors import GatewayError, StartupError, UserProblem

# Each command with its module, which has a Typer `cli`, in the order of --help.
_MODULES = {
    "dev": "servers",
    "serve": "servers",
    "worker": "workers",
    "migrate": "migrations",
    "workspaces": "workspaces",
    "keys": "keys",
    "import": "imports",
    "export": "exports",
    "klaviyo": "klaviyo",
    "rebuild": "definitions",
    "export-schema": "schemas",
    "explain-plan": "plans",
}


class _Commands(Mapping[str, TyperCommand | TyperGroup]):
    """Every command by name. A module is imported when its command is looked up: the schema takes a second of CPU."""

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        group = get_group(module.cli)
        command: Any = group.commands.get(name, group)
        command.name = name
        return command  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


class _LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands()  # type: ignore[assignment]


cli = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold keys
)


@cli.callback()
def gateway() -> None:
    """An async GraphQL gateway for events and customer support."""


def main() -> None:
    """The program `gateway`."""
    try:
        cli()
    except (StartupError, GatewayError, UserProblem) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False, highlight=False)
        sys.exit(1)
