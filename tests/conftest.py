"""What tests share: real servers on sockets, a gateway over HTTP, workspaces of their own, a clock that can be moved."""

import asyncio
import contextlib
import fcntl
import http.server
import os
import random
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest
import uvicorn
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pymongo.monitoring import CommandListener

from gateway.app import create_app
from gateway.domain.access import Scope
from gateway.domain.clocks import system_clock
from gateway.runtime import Runtime, live, open_runtime
from gateway.server_options import server_options
from gateway.settings import MongoDriver, Settings
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
RUST_SERVER = SHARED / "bin" / "secantusd-rs"
TEST_SECRET = "a secret of the tests which is long enough"

hypothesis_settings.register_profile(
    "ci",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
hypothesis_settings.load_profile("ci")


def pytest_configure() -> None:
    """Tests see no setting of whoever runs them."""
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        del os.environ[name]


_PATIENCE_SECONDS = 20  # a busy machine is no database that is away; tests of one that is say how long they wait


class Commands(CommandListener):
    """Counts what is asked of the database."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.finds: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        if event.command.get("collection") != "$cmd.aggregate" and event.command.get("aggregate") != 1:
            self.names.append(event.command_name)  # the bus reads its stream all the while, whatever is asked
            if event.command_name in ("find", "aggregate"):
                self.finds.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        """Not counted again."""

    def failed(self, event: Any) -> None:
        """Not counted again."""

    @property
    def reads(self) -> list[str]:
        return [name for name in self.names if name in ("find", "aggregate", "getMore", "count")]


@dataclass
class MovableClock:
    """The present, as far ahead as a test wants."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


@dataclass
class Gateway:
    """A gateway that listens, and what is behind it."""

    url: str
    runtime: Runtime
    commands: Commands
    http: httpx.AsyncClient

    async def workspace(self) -> "Workspace":
        row = await self.runtime.workspaces.create(f"test-{uuid.uuid4().hex}")
        _, key = await self.runtime.workspaces.create_key(row["_id"], list(Scope))
        return Workspace(self, row["_id"], key)


@dataclass
class Workspace:
    """A workspace that nobody else uses, with a key that may do everything in it."""

    gateway: Gateway
    id: str
    key: str

    async def key_with(self, *scopes: Scope) -> str:
        _, key = await self.gateway.runtime.workspaces.create_key(self.id, scopes)
        return key

    async def post(
        self,
        query: str,
        variables: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        raw: bytes | None = None,
        origin: str | None = None,
    ) -> httpx.Response:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key != "" else {})
        headers |= {} if key is not None else {"authorization": f"Bearer {self.key}"}
        headers |= {"origin": origin} if origin is not None else {}
        content = raw if raw is not None else orjson.dumps({"query": query, "variables": variables or {}})
        return await self.gateway.http.post(self.gateway.url, content=content, headers=headers)

    async def ask(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None, origin: str | None = None
    ) -> dict[str, Any]:
        """The whole answer, errors and all."""
        response = await self.post(query, variables, key=key, origin=origin)
        answer = response.json()
        assert isinstance(answer, dict), response.text
        return answer

    async def data(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None, origin: str | None = None
    ) -> Any:
        """The data of an answer without errors."""
        answer = await self.ask(query, variables, key=key, origin=origin)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def track(self, *events: dict[str, Any]) -> dict[str, Any]:
        """The payload of trackEvents, all of whose events were taken."""
        found = await self.data(
            "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) "
            "{ accepted duplicates rejected results { index eventId duplicate error { code message path } } userErrors { code message path } } }",
            {"e": list(events)},
        )
        assert isinstance(found["trackEvents"], dict)
        return found["trackEvents"]

    async def token(self, **ref: Any) -> str:
        """A token of the contact of that reference."""
        found = await self.data(
            "mutation($c: ContactRef!) { createContactToken(input: {contact: $c}) { token userErrors { code message path } } }",
            {"c": ref},
        )
        assert found["createContactToken"]["userErrors"] == []
        return str(found["createContactToken"]["token"])

    @property
    def store(self) -> Any:
        return self.gateway.runtime.services.store.open(self.id)


@pytest.fixture(scope="session")
def free_port(worker_id: str) -> Callable[[], int]:
    """A port of 127.0.0.1 that nobody uses, nor takes meanwhile: of this worker alone, below those of outgoing connections."""
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    candidates = iter(random.sample(range(10_000 + number % 8 * 1_000, 11_000 + number % 8 * 1_000), 1_000))

    def choose() -> int:
        for port in candidates:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
        raise AssertionError("every port of this worker was used")

    return choose


@pytest.fixture(scope="session")
def once_for_all(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A lock that all workers of this run share: `with once_for_all("name"):`."""

    @contextlib.contextmanager
    def locked(name: str) -> Iterator[None]:
        with (tmp_path_factory.getbasetemp().parent / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return locked


@pytest.fixture(scope="session")
async def mongo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URI of the embedded server that the whole session shares."""
    async with embedded_server(tmp_path_factory.mktemp("mongo"), "secantusd-py") as uri:
        yield uri


@pytest.fixture(scope="session")
async def rust_mongo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URI of the other embedded server; empty where it is absent."""
    if not RUST_SERVER.exists():
        yield ""
        return
    async with embedded_server(tmp_path_factory.mktemp("rust"), str(RUST_SERVER)) as uri:
        yield uri


@pytest.fixture(
    params=[(server, driver) for server in ("secantusd-py", "secantusd-rs") for driver in MongoDriver],
    ids=lambda pair: f"{pair[0]}-{pair[1]}",
)
async def every_gateway(
    request: pytest.FixtureRequest, open_gateway: Any, mongo: str, rust_mongo: str
) -> AsyncIterator[Gateway]:
    """A gateway on each server with each driver in turn."""
    server, driver = request.param
    uri = mongo if server == "secantusd-py" else rust_mongo
    if not uri:
        pytest.skip(f"left out: the Rust server is not at {RUST_SERVER.relative_to(ROOT.parent)} beside this checkout")
    async with open_gateway(uri=uri, mongo_driver=driver) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def open_gateway(mongo: str) -> Callable[..., Any]:
    """Opens a gateway on a database of its own (or that of `database`): `async with open_gateway(clock=..., **settings) as gateway`; `rolls_up=False`: another one does."""

    @contextlib.asynccontextmanager
    async def opened(
        uri: str = mongo,
        database: str | None = None,
        clock: Any = system_clock,
        rolls_up: bool = True,
        listener: Any = None,
        **settings: Any,
    ) -> AsyncIterator[Gateway]:
        commands = Commands()
        listeners = [commands] if listener is None else [commands, listener]
        name = database or f"test_{uuid.uuid4().hex[:12]}"
        all_settings = Settings(**{"secret_key": TEST_SECRET, "mongo_timeout_seconds": _PATIENCE_SECONDS, **settings})
        async with open_runtime(all_settings, uri, name, clock=clock, listeners=listeners) as runtime:
            await migrate(runtime.database, runtime.clock, owner="tests")
            async with (
                live(runtime, rolls_up=rolls_up),
                _serving(runtime) as url,
                httpx.AsyncClient(timeout=60) as http,
            ):
                yield Gateway(url, runtime, commands, http)

    return opened


@contextlib.asynccontextmanager
async def _serving(runtime: Runtime) -> AsyncIterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(runtime, runtime.authenticator()),
            host="127.0.0.1",
            port=0,
            lifespan="off",
            **server_options(runtime.services.settings),
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/graphql"
    server.should_exit = True
    await task


@pytest.fixture(scope="session")
async def gateway(open_gateway: Any) -> AsyncIterator[Gateway]:
    """A gateway with the default settings, on the embedded server, over HTTP; shared by the session."""
    async with open_gateway() as opened:
        yield opened


@pytest.fixture(scope="session")
async def still_gateway(open_gateway: Any) -> AsyncIterator[Gateway]:
    """One that reads and writes nothing by itself; a test module has it by a fixture `gateway` that returns it."""
    async with open_gateway(rolls_up=False) as opened:
        yield opened


@pytest.fixture
async def workspace(gateway: Gateway) -> Workspace:
    """A new workspace of the session's gateway."""
    return await gateway.workspace()


@pytest.fixture
def clock() -> MovableClock:
    """A clock that a test moves: `clock.ahead = timedelta(days=1)`."""
    return MovableClock()


@dataclass
class Program:
    """The program `gateway`, run as people run it."""

    data: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*self.command(*arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.environment, **environment},
            cwd=self.data.parent,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that stays; its output goes to gateway.log beside the data folder."""
        with (self.data.parent / "gateway.log").open("ab") as log:
            return subprocess.Popen(
                [*self.command(*arguments)],
                stdout=log,
                stderr=log,
                env={**self.environment, **environment},
                cwd=self.data.parent,
            )

    def command(self, *arguments: str) -> list[str]:
        data = [] if arguments[0] in ("export-schema", "serve") else ["--data", str(self.data)]
        return [str(Path(sys.executable).parent / "gateway"), *arguments, *data]

    @property
    def log(self) -> str:
        return (self.data.parent / "gateway.log").read_text()

    def database_pid(self) -> int:
        """The process of the embedded database."""
        return int(orjson.loads((self.data / "database.json").read_bytes())["pid"])

    def databases(self) -> list[psutil.Process]:
        """Every process that has the data folder as its database."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.data / "database") in process.cmdline():
                    found.append(process)
        return found

    def end(self) -> None:
        """End the embedded database if something left it running."""
        with contextlib.suppress(OSError, KeyError, ValueError, psutil.Error):
            process = psutil.Process(self.database_pid())
            if str(self.data) in " ".join(process.cmdline()):
                process.kill()


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """The program with a data folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a command starts twice as fast with compiled modules
    made = Program(tmp_path / "data", {**environment, "COLUMNS": "200", "NO_COLOR": "1", "GATEWAY_DEMO_SECONDS": "0"})
    yield made
    made.end()


@pytest.fixture(scope="session")
def now() -> datetime:
    """The moment at which the session began, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def started() -> Callable[..., Any]:
    """Runs a command that serves: `async with started(program, port, "dev", "--port", str(port))`, from its first answer to its clean end."""

    @contextlib.asynccontextmanager
    async def serving(
        program: Program, port: int, *arguments: str, **environment: str
    ) -> AsyncIterator[subprocess.Popen[bytes]]:
        process = program.start(*arguments, **environment)
        try:
            async with httpx.AsyncClient() as http:
                for _ in range(1200):
                    assert process.poll() is None, program.log
                    with contextlib.suppress(httpx.HTTPError):
                        if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                            break
                    await asyncio.sleep(0.05)
                else:
                    raise AssertionError(program.log)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            await asyncio.to_thread(process.wait, 60)

    return serving


class Collector:
    """An OTLP receiver: every byte that arrived, and the spans in it."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def groups(self) -> list[Any]:
        """What arrived, in groups of one process each."""
        return [group for body in self.bodies for group in ExportTraceServiceRequest.FromString(body).resource_spans]

    @property
    def spans(self) -> list[Span]:
        return [span for group in self.groups for scope in group.scope_spans for span in scope.spans]

    def trace(self, trace_id: str) -> tuple[Span, list[Span]]:
        """The one span of an operation in that trace, and those of its commands in the order of their beginnings."""
        trace = [span for span in self.spans if span.trace_id.hex() == trace_id]
        (operation,) = [span for span in trace if span.kind == Span.SPAN_KIND_SERVER]
        commands = [span for span in trace if span.kind == Span.SPAN_KIND_CLIENT]
        assert len(commands) == len(trace) - 1
        assert {span.parent_span_id for span in commands} <= {operation.span_id}
        return operation, sorted(commands, key=lambda span: span.start_time_unix_nano)


@pytest.fixture(scope="session")
def collecting() -> Callable[..., Any]:
    """A collector of spans that listens: `with collecting() as collector`; `status` is what it answers."""

    @contextlib.contextmanager
    def listening(status: int = 200) -> Iterator[Collector]:
        collector = Collector(status)
        with collector.server as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield collector
            finally:
                server.shutdown()
                thread.join()

    return listening
