"""What tests share: real servers on sockets, a gateway over HTTP, workspaces of their own, a clock that can be moved."""

import asyncio
import contextlib
import fcntl
import http.server
import os
import random
import socket
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from gateways import Commands, Gateway, MovableClock, OpenGateway, Workspace
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from processes import CommandLine, Program, own_environment
from pymongo.monitoring import CommandListener

from gateway.app import create_app
from gateway.core.clock import Clock, system_clock
from gateway.runtime import Runtime, Sleep, background_tasks, open_runtime
from gateway.server.uvicorn_options import server_options
from gateway.settings import MongoDriver, Settings
from gateway.store.driver import Database
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate
from gateway.store.servers import open_database

pytest_plugins = ["cpu_times"]
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
RUST_SERVER = SHARED / "bin" / "secantusd-rs"
TEST_SECRET = "a secret of the tests which is long enough"

hypothesis_settings.register_profile(
    "ci",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
    database=None,
)
hypothesis_settings.load_profile("ci")


def pytest_configure() -> None:
    """Tests see no setting of whoever runs them; no HTTP client reads the system's certificates, which takes 0.07 s each time."""
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        del os.environ[name]
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)  # has none


_PATIENCE_SECONDS = 20  # a busy machine is no database that is away; tests of one that is say how long they wait


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
def once_for_all(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], AbstractContextManager[None]]:
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


@pytest.fixture(scope="session")
def fast_server() -> str:
    """The program of the faster server: the Rust server where it is at hand."""
    return str(RUST_SERVER) if RUST_SERVER.exists() else "secantusd-py"


@pytest.fixture(scope="session")
def fast_mongo(mongo: str, rust_mongo: str) -> str:
    """The URI of the faster server, for tests of many examples: of the Rust server where it is at hand."""
    return rust_mongo or mongo


PAIRS = [(server, driver) for server in ("secantusd-py", "secantusd-rs") for driver in MongoDriver]


@pytest.fixture(params=PAIRS, ids="-".join)
def server_and_driver(request: pytest.FixtureRequest, uri_of: Callable[[str], str]) -> tuple[str, MongoDriver]:
    """The URI of each server with each driver in turn."""
    server, driver = request.param
    return uri_of(server), driver


@pytest.fixture(params=[PAIRS[0], PAIRS[-1]], ids="-".join)
def each_server(request: pytest.FixtureRequest, uri_of: Callable[[str], str]) -> tuple[str, MongoDriver]:
    """The URI of each server in turn, with another driver each."""
    server, driver = request.param
    return uri_of(server), driver


@pytest.fixture(scope="session")
def uri_of(mongo: str, rust_mongo: str) -> Callable[[str], str]:
    """The URI of the server of that name; a test is left out where it is absent."""

    def found(server: str) -> str:
        uri = mongo if server == "secantusd-py" else rust_mongo
        if not uri:
            pytest.skip(
                f"left out: the Rust server is not at {RUST_SERVER.relative_to(ROOT.parent)} beside this checkout"
            )
        return uri

    return found


SharedGateway = Callable[[str, MongoDriver], Awaitable[Gateway]]


@pytest.fixture(scope="session")
async def shared_gateway(open_gateway: OpenGateway) -> AsyncIterator[SharedGateway]:
    """The session's gateway on that server with that driver, opened by the first test that asks for it."""
    gateways: dict[tuple[str, MongoDriver], Gateway] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def gateway_on(uri: str, driver: MongoDriver) -> Gateway:
            if (uri, driver) not in gateways:
                gateway = await stack.enter_async_context(open_gateway(uri=uri, mongo_driver=driver))
                gateways[uri, driver] = gateway
            return gateways[uri, driver]

        yield gateway_on


@pytest.fixture(scope="session")
async def fast_gateway(fast_mongo: str, shared_gateway: SharedGateway) -> Gateway:
    """The session's gateway on the faster server, for tests of many examples."""
    return await shared_gateway(fast_mongo, Settings().mongo_driver)


@pytest.fixture
async def every_gateway(server_and_driver: tuple[str, MongoDriver], shared_gateway: SharedGateway) -> Gateway:
    """The session's gateway on each server with each driver in turn: for tests of the store, in workspaces of their own."""
    return await shared_gateway(*server_and_driver)


@pytest.fixture
async def each_gateway(each_server: tuple[str, MongoDriver], shared_gateway: SharedGateway) -> Gateway:
    """The session's gateway on each server in turn: for tests that keep to workspaces of their own.

    One that sweeps, counts or fires what lies in every workspace takes `each_new_gateway`."""
    return await shared_gateway(*each_server)


@pytest.fixture
async def each_new_gateway(each_server: tuple[str, MongoDriver], open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    """A gateway with a database of its own on each server in turn."""
    uri, driver = each_server
    async with open_gateway(uri=uri, mongo_driver=driver) as gateway:
        yield gateway


@pytest.fixture
async def every_database(server_and_driver: tuple[str, MongoDriver]) -> AsyncIterator[Database]:
    """A new database, migrated and without a gateway, on each server with each driver in turn."""
    uri, driver = server_and_driver
    async with open_database(Settings(mongo_driver=driver), uri, f"test_{uuid.uuid4().hex[:12]}") as database:
        await migrate(database, system_clock, owner="tests")
        yield database


@pytest.fixture(scope="session")
def open_gateway(mongo: str) -> OpenGateway:
    """Opens a gateway on a database of its own (or that of `database`): `async with open_gateway(clock=..., **settings) as gateway`.

    `rolls_up=False`: another one does, or none. `sleep=asyncio.sleep`: other processes hear in time that a sync changed."""

    @contextlib.asynccontextmanager
    async def opened(
        uri: str = mongo,
        database: str | None = None,
        clock: Clock = system_clock,
        rolls_up: bool = True,
        listener: CommandListener | None = None,
        sleep: Sleep = _no_time,
        **settings: Any,
    ) -> AsyncIterator[Gateway]:
        commands = Commands()
        listeners = [commands] if listener is None else [commands, listener]
        name = database or f"test_{uuid.uuid4().hex[:12]}"
        all_settings = Settings(**{"secret_key": TEST_SECRET, "mongo_timeout_seconds": _PATIENCE_SECONDS, **settings})
        async with open_runtime(all_settings, uri, name, clock=clock, listeners=listeners, sleep=sleep) as runtime:
            await migrate(runtime.database, runtime.clock, owner="tests")
            async with (
                background_tasks(runtime, rolls_up=rolls_up),
                _serving(runtime) as url,
                httpx.AsyncClient(timeout=60) as http,
            ):
                yield Gateway(url, runtime, commands, http)

    return opened


async def _no_time(_: float) -> None:
    """Wait for no other process: most tests have none."""
    await asyncio.sleep(0)


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
async def gateway(mongo: str, shared_gateway: SharedGateway) -> Gateway:
    """A gateway with the default settings, on the embedded server, over HTTP; shared by the session."""
    return await shared_gateway(mongo, Settings().mongo_driver)


@pytest.fixture(scope="session")
async def still_gateway(open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    """One that reads and writes nothing by itself; a test module has it by a fixture `gateway` that returns it."""
    async with open_gateway(rolls_up=False) as opened:
        yield opened


@pytest.fixture
async def workspace(gateway: Gateway) -> Workspace:
    """A new workspace of the session's gateway."""
    return await gateway.workspace()


@pytest.fixture
async def fast_workspace(fast_gateway: Gateway) -> Workspace:
    """A new workspace on the faster server, for tests of many documents."""
    return await fast_gateway.workspace()


@pytest.fixture
def clock() -> MovableClock:
    """A clock that a test moves: `clock.ahead = timedelta(days=1)`."""
    return MovableClock()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program with a data folder of its own."""
    made = Program(tmp_path / "data", own_environment())
    yield made
    made.end()


@pytest.fixture
def command_line(mongo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The program's commands in this process, on a database of their own; no deletion waits for other gateways."""
    monkeypatch.setattr("gateway.services.workspaces.REMEMBERED_SECONDS", -1)
    monkeypatch.chdir(tmp_path)
    return CommandLine(
        own_environment(
            GATEWAY_MONGO_URI=mongo, GATEWAY_MONGO_DATABASE=f"test_{uuid.uuid4().hex[:12]}", GATEWAY_LOG_LEVEL="WARNING"
        )
    )


@pytest.fixture(scope="session")
def now() -> datetime:
    """The moment at which the session began, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def started() -> Callable[..., AbstractAsyncContextManager[subprocess.Popen[bytes]]]:
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
def collecting() -> Callable[..., AbstractContextManager[Collector]]:
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
