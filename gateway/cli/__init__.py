"""The command line: parse, build the settings, call one function."""

import sys

import typer
from rich.console import Console

from gateway.cli.definitions import definitions_cli
from gateway.cli.exports import exports_cli
from gateway.cli.imports import imports_cli
from gateway.cli.keys import keys_cli
from gateway.cli.klaviyo import klaviyo_cli
from gateway.cli.plans import plans_cli
from gateway.cli.schemas import schemas_cli
from gateway.cli.servers import servers_cli
from gateway.cli.workspaces import workspaces_cli
from gateway.errors import GatewayError, StartupError, UserProblem

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold keys
    help="An async GraphQL gateway for events and customer support.",
)
cli.add_typer(servers_cli)
cli.add_typer(workspaces_cli, name="workspaces")
cli.add_typer(keys_cli, name="keys")
cli.add_typer(imports_cli, name="import")
cli.add_typer(exports_cli, name="export")
cli.add_typer(klaviyo_cli, name="klaviyo")
cli.add_typer(definitions_cli, name="rebuild")
cli.add_typer(schemas_cli)
cli.add_typer(plans_cli)


def main() -> None:
    """The program `gateway`."""
    try:
        cli()
    except (StartupError, GatewayError, UserProblem) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False, highlight=False)
        sys.exit(1)
