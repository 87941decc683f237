"""The worked examples of CONTRIBUTING, performed on a copy of the code: a contact field, and a state of tickets."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
KEY = "a-key-for-the-example"


def changes(heading: str) -> Iterator[tuple[str, str, str]]:
    """Of the section with that heading: file, line, and the line that is added below it."""
    section = GUIDE.split(f"## {heading}\n")[1].split("\n## ")[0]
    (diff,) = re.findall(r"```diff\n(.*?)```", section, re.S)
    for change in re.findall(r"^--- (.+)\n (.+)\n\+(.+)\n", diff, re.M):
        yield change[0], change[1], change[2]
    assert diff.count("\n+") == len(re.findall(r"^--- ", diff, re.M)), "one line for each file that is named"


@pytest.fixture
def changed(program: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the code with the example of a section; the program runs from it."""

    def perform(heading: str) -> Path:
        tree = tmp_path / "code"
        for name in ("gateway", "schema", "resolvers", "docs"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        (tree / "tests").mkdir()
        shutil.copytree(ROOT / "tests" / "unit", tree / "tests" / "unit", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        for file, line, added in changes(heading):
            code = (tree / file).read_text()
            assert code.count(f"\n{line}\n") == 1, f"{file} has no such line, or several: {line}"
            (tree / file).write_text(code.replace(f"\n{line}\n", f"\n{line}\n{added}\n"))
        program.environment |= {"PYTHONPATH": str(tree), "GATEWAY_DEV_KEY": KEY}
        return tree

    return perform


def check_tests(tree: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tree, env=environment, check=False)
    assert done.returncode == 0, done.stdout


async def test_a_contact_field_is_a_row_of_the_table_and_a_line_of_the_schema(
    program: Any, changed: Callable[[str], Path], free_port: Callable[[], int], started: Any, tmp_path: Path
) -> None:
    tree, port = changed("To add a field to a contact"), free_port()
    check_tests(tree, "tests/unit/test_contact_fields.py")
    async with started(program, port, "dev", "--no-demo", "--port", str(port)):
        data = client(port)
        upsert = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id jobTitle } userErrors { message } } }"
        merge = "mutation($i: MergeContactsInput!) { mergeContacts(input: $i) { contact { jobTitle } userErrors { message } } }"
        visitor = (await data(upsert, {"anonymousId": "a1", "jobTitle": "Analyst"}))["upsertContact"]["contact"]
        user = (await data(upsert, {"externalId": "ada"}))["upsertContact"]["contact"]
        assert (visitor["jobTitle"], user["jobTitle"]) == ("Analyst", None)
        refused = (await data(upsert, {"externalId": "ada", "jobTitle": " "}))["upsertContact"]
        assert refused == {"contact": None, "userErrors": [{"message": "jobTitle must not be empty."}]}
        merged = await data(merge, {"from": visitor["id"], "into": user["id"]})
        assert merged == {"mergeContacts": {"contact": {"jobTitle": "Analyst"}, "userErrors": []}}
    file = tmp_path / "contacts.ndjson"
    assert program.run("export", "contacts", str(file)).returncode == 0
    (row,) = (orjson.loads(line) for line in file.read_bytes().splitlines())
    assert (row["externalId"], row["jobTitle"]) == ("ada", "Analyst")


async def test_a_state_of_tickets_is_a_row_of_the_table_and_its_names(
    program: Any, changed: Callable[[str], Path], free_port: Callable[[], int], started: Any
) -> None:
    tree, port = changed("To add a state to tickets"), free_port()
    check_tests(tree, "tests/unit/test_ticket_states.py", "tests/unit/test_changes.py", "-k", "not guide")
    async with started(program, port, "dev", "--no-demo", "--port", str(port)):
        data = client(port)
        type_ = await data(
            "mutation($i: SaveTicketTypeInput!) { saveTicketType(input: $i) { ticketType { id } } }",
            {"name": "Bug", "category": "CUSTOMER"},
        )
        created = await data(
            "mutation($i: CreateTicketInput!) { createTicket(input: $i) { ticket { id } userErrors { message } } }",
            {
                "contact": {"externalId": "ada"},
                "typeId": type_["saveTicketType"]["ticketType"]["id"],
                "title": "It fails",
            },
        )
        set_state = "mutation($i: SetTicketStateInput!) { setTicketState(input: $i) { part { fromState toState } userErrors { code } } }"
        ticket = created["createTicket"]["ticket"]["id"]
        moved = (await data(set_state, {"id": ticket, "state": "ON_HOLD"}))["setTicketState"]
        assert moved == {"part": {"fromState": "SUBMITTED", "toState": "ON_HOLD"}, "userErrors": []}
        again = (await data(set_state, {"id": ticket, "state": "ON_HOLD"}))["setTicketState"]
        assert again == {"part": None, "userErrors": [{"code": "ILLEGAL_TRANSITION"}]}
        with program.database() as database:
            changes = database["changes"].find({"subject": "ticket"}, sort=[("_id", 1)])
            assert [change["kind"] for change in changes] == ["CREATED", "ON_HOLD"]


def client(port: int) -> Callable[[str, dict[str, Any]], Any]:
    async def data(query: str, input_: dict[str, Any]) -> Any:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http:
            sent = {"query": query, "variables": {"i": input_}}
            answer = (await http.post(f"http://127.0.0.1:{port}/graphql", json=sent)).json()
        assert "errors" not in answer, answer
        return answer["data"]

    return data
