"""What commands load, and what is built once: a command that needs no schema does not import it."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from processes import Program

RUN = "import sys; from gateway.cli import main; sys.argv = ['gateway', *sys.argv[1:]]"
LOADED = f"""{RUN}
try:
    main()
finally:
    names = ('schema', 'strawberry', 'graphql', 'starlette', 'liquid', 'httpx', 'gateway.runtime', 'resolvers')
    print('loaded', *[name for name in names if name in sys.modules])
"""
COUNTING = f"""{RUN}
import schema.root
build = schema.root.Schema.__init__
def counted(*args, **options):
    print('built a schema', flush=True)
    build(*args, **options)
schema.root.Schema.__init__ = counted
main()
"""


def run(program: Program, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    env = {**program.environment, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=program.data.parent)


@pytest.fixture
def environment(mongo: str, tmp_path: Any) -> dict[str, str]:
    return {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"start_{tmp_path.name[-20:]}".replace("-", "_")}


def test_commands_on_keys_workspaces_and_migrations_load_the_database_alone(
    program: Program, environment: dict[str, str]
) -> None:
    for arguments in (("migrate",), ("workspaces", "create", "w"), ("keys", "list", "-w", "w"), ("keys", "--help")):
        done = run(program, LOADED, *arguments, **environment)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "loaded"), (arguments, done.stderr)


def test_commands_that_work_through_the_services_load_no_schema(program: Program, environment: dict[str, str]) -> None:
    assert run(program, LOADED, "workspaces", "create", "w", **environment).returncode == 0
    for arguments in (("export", "contacts", "people.csv"), ("klaviyo", "check")):
        done = run(program, LOADED, *arguments, **environment)
        loaded = done.stdout.splitlines()[-1].split()
        assert loaded[0] == "loaded", (arguments, done.stderr)
        assert "gateway.runtime" in loaded
        assert not {"schema", "starlette"} & set(loaded)


async def test_serve_builds_the_schema_once(
    program: Program,
    environment: dict[str, str],
    free_port: Callable[[], int],
    started: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert program.run("migrate", **environment).returncode == 0
    monkeypatch.setattr(program, "command", lambda *arguments: [sys.executable, "-c", COUNTING, *arguments])
    port = free_port()
    async with started(program, port, "serve", "--port", str(port), **environment):
        assert program.log.count("built a schema") == 1
