"""`gateway dev`: an embedded database, a workspace with demo data, and a key with every scope."""

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from pydantic import SecretStr
from rich.console import Console

from gateway.app import create_app
from gateway.core.principals import Principal, Scope
from gateway.demo.contacts_and_events import keep_tracking, seed_demo
from gateway.demo.conversations import seed_desk
from gateway.demo.messages import seed_messages
from gateway.demo.tickets import seed_tickets
from gateway.domain.workspaces import WorkspaceDocument
from gateway.errors import StartupError
from gateway.runtime import Runtime, background_tasks, open_runtime, tune_gc
from gateway.server.uvicorn_options import server_options
from gateway.settings import DEVELOPMENT_DEFAULTS, Settings, database_name
from gateway.store.embedded import HOST
from gateway.store.migrations import migrate as run_migrations
from gateway.store.servers import mongo_uri

DEV_WORKSPACE = "dev"
_PRIVATE, _GROUP_AND_WORLD = 0o600, 0o077


async def develop(settings: Settings, port: int, data: Path, demo: bool, owner: str) -> None:
    """Serve on the port until a signal. The database is that of the settings, or the embedded one in `data`."""
    settings = _with_secret(_with_development_defaults(settings), data)
    async with (
        mongo_uri(settings, data, share=False) as uri,
        open_runtime(settings, uri, database_name(settings, dev=True)) as runtime,
    ):
        await run_migrations(runtime.database, runtime.clock, owner=owner)
        workspace = await _dev_workspace(runtime, demo)
        key = settings.dev_key or _read_or_create(data / "dev_key", "dev_" + secrets.token_urlsafe(24))
        principal = Principal("key_00000000000000000000000DEV", workspace["_id"], frozenset(Scope))
        server = _Server(
            uvicorn.Config(
                create_app(runtime, runtime.authenticator({key: principal}), page_key=key),
                host=HOST,
                port=port,
                lifespan="off",
                **server_options(settings),
            )
        )
        server.welcome = _welcome(port, key, settings)
        async with background_tasks(runtime, delivers=True), _demo(runtime, workspace):
            tune_gc()
            await server.serve()


def _with_development_defaults(settings: Settings) -> Settings:
    return settings.model_copy(
        update={name: value for name, value in DEVELOPMENT_DEFAULTS.items() if getattr(settings, name) is None}
    )


@contextlib.asynccontextmanager
async def _demo(runtime: Runtime, workspace: WorkspaceDocument) -> AsyncIterator[None]:
    services = runtime.services
    if not _is_demo(workspace) or not services.settings.demo_seconds:
        yield
        return
    tracking = keep_tracking(
        services.events, workspace["_id"], services.settings, workspace["created_at"], services.clock
    )
    task = asyncio.create_task(tracking)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Server(uvicorn.Server):
    """Uvicorn that prints the welcome text when it listens, and returns after a signal so that the database can stop."""

    welcome = ""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal without re-raising it: that would kill this process before its database."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(self.welcome + "\n")
            sys.stdout.flush()


def _is_demo(workspace: WorkspaceDocument) -> bool:
    """Whether the workspace was created for the demo, not by the user under the same name."""
    return workspace.get("demo") in ("pending", "done")


async def _dev_workspace(runtime: Runtime, demo: bool) -> WorkspaceDocument:
    workspace = await runtime.services.store.workspaces.find(DEV_WORKSPACE)
    if workspace is None:
        workspace = await runtime.workspaces.create(DEV_WORKSPACE, demo="pending" if demo else "none")
    if workspace.get("demo") == "pending" and demo:
        with Console(stderr=True).status("Creating demo contacts and events ..."):
            await seed_demo(
                runtime.services.events,
                runtime.services.contacts,
                workspace["_id"],
                runtime.services.settings,
                workspace["created_at"],
            )
        await runtime.services.store.workspaces.update(workspace["_id"], {"demo": "done"})
    if _is_demo(workspace) and workspace.get("desk") != "done" and demo:
        with Console(stderr=True).status("Creating demo conversations and tickets ..."):
            services, at = runtime.services, workspace["created_at"]
            await seed_desk(services.teammates, services.conversations, services.store, workspace["_id"], at)
            await seed_tickets(services.ticket_types, services.tickets, services.store, workspace["_id"], at)
            await seed_messages(services.messages, services.store.open(workspace["_id"]))
        await runtime.services.store.workspaces.update(workspace["_id"], {"desk": "done"})
    return workspace


def _welcome(port: int, key: str, settings: Settings) -> str:
    page = f"http://{HOST}:{port}/"
    url = f"{page}graphql"
    query = "{ contacts(first: 3) { nodes { displayName eventSummaries(first: 2) { nodes { name count lastAt } } events(first: 2) { nodes { name occurredAt } } } } }"
    return "\n".join(
        (
            f"\nThe gateway listens on {url}",
            *([f"Open:   {page}   (GraphiQL with the key)"] if settings.graphiql else []),
            f"Key:    {key}   (every scope in the workspace '{DEV_WORKSPACE}'; only for development)",
            f"Query:  {query}",
            "Try it:",
            f"  curl -s {url} -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\",
            f'    -d \'{{"query": "{query}"}}\'',
            "Stop it with Ctrl-C.\n",
        )
    )


def _with_secret(settings: Settings, data: Path) -> Settings:
    """Add a stored signing secret if the settings have none, so that tokens work."""
    if settings.secret_key:
        return settings
    return settings.model_copy(
        update={"secret_key": (SecretStr(_read_or_create(data / "secret_key", secrets.token_urlsafe(48))),)}
    )


def _read_or_create(path: Path, new: str) -> str:
    """Return the content of a file that only its owner can read; created with `new` if missing or empty."""
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mode & _GROUP_AND_WORLD:
                path.chmod(_PRIVATE)
            if stored := path.read_text().strip():
                return stored
        path.touch(mode=_PRIVATE)
        path.write_text(new + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(
            f"{path} cannot be used ({error}): delete it, or choose another folder with --data."
        ) from error
    return new
