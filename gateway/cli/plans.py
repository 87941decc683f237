"""The command that prints what an operation is compiled to."""

import json
import sys
from typing import Annotated

import typer
from graphql.execution.values import VariableValues

from gateway.errors import StartupError
from gateway.execution.documents import prepare_document
from gateway.execution.plans import Planner
from schema.nodes import document_key
from schema.root import build_schema

cli = typer.Typer()


@cli.command("explain-plan")
def explain_plan(
    query: Annotated[str, typer.Argument(help="A file with a GraphQL document; - reads standard input.")],
    operation: Annotated[
        str | None, typer.Option(help="The name of the operation, if the document has several.")
    ] = None,
    variables: Annotated[str, typer.Option(help="The variables of @skip and @include, as JSON.")] = "{}",
) -> None:
    """Print the Python code of a compiled operation, innermost functions first."""
    schema = build_schema(suggestions=True).core
    prepared = prepare_document(schema, sys.stdin.read() if query == "-" else query, suggestions=True)
    if prepared.errors:
        raise StartupError("\n".join(error.message for error in prepared.errors))
    try:
        node, given = prepared.named(operation), json.loads(variables)
    except LookupError:
        raise StartupError("The document has no such operation, or more than one: name one with --operation.") from None
    except ValueError:
        raise StartupError("--variables must be a JSON object, such as '{}'.") from None
    sources = Planner(schema, document_key).explain(prepared, node, VariableValues({}, given))
    if not sources:
        raise StartupError(
            "This operation has no plan: graphql-core executes it, or a variable of @skip or @include is missing (give --variables)."
        )
    sys.stdout.write("\n".join(sources))
