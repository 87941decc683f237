"""The timeline of the guide for front-ends, in a real browser, on a line that is cut, goes dead, and outlives its token."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import pytest
from browsers import Page, browsing, needs_browser
from processes import becomes_true

from gateway.errors import CursorExpiredError
from gateway.server.graphql_ws import SocketHandler

HERE = Path(__file__).parent
SHOWN = "[...document.querySelectorAll('li')].map(item => item.textContent.split(' ')[0])"


class Line:
    """A line between clients and a server, which can be cut, and can go dead."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._ends: set[asyncio.StreamWriter] = set()
        self._dead: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.refused = 0
        self.sockets_come = asyncio.Event()
        self.sockets_come.set()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        """The server's URL over this line."""
        async with await asyncio.start_server(self._connect, "127.0.0.1", 0) as listening:
            host, port = listening.sockets[0].getsockname()
            yield self._server._replace(netloc=f"{host}:{port}").geturl()
            self.cut()

    def cut(self) -> None:
        """Break every connection, and let none come."""
        self._is_cut = True
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        """Let connections come again."""
        self._is_cut = False

    def deaden(self) -> None:
        """Swallow what is sent on the connections that there are, and tell nobody."""
        self._dead = set(self._ends)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self.refused += 1
            writer.transport.abort()
            return
        with contextlib.suppress(asyncio.IncompleteReadError):  # browsers open connections that they may not need
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                await self.sockets_come.wait()
            server_reader, server_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
            server_writer.write(head)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, server_writer))
                tasks.create_task(self._carry(server_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if writer not in self._dead:
                    writer.write(data)
                    await writer.drain()
        self._ends.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def web_server(port: int, workspace: Any) -> AsyncIterator[None]:
    """Somebody's web server, while it listens."""
    process = await asyncio.create_subprocess_exec(
        "node", "timeline_server.js", str(port),
        cwd=HERE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "EVENTS_URL": workspace.gateway.url, "EVENTS_KEY": workspace.key},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == f"http://127.0.0.1:{port}\n".encode()
        yield
    finally:
        process.terminate()
        await process.wait()


def heard(page: Page) -> list[str]:
    """The names of the events that came by socket, in their order."""
    frames = [orjson.loads(told["response"]["payloadData"]) for told in page.told("Network.webSocketFrameReceived")]
    told = [frame["payload"]["data"]["eventTracked"]["event"] for frame in frames if frame["type"] == "next"]
    return [event["name"] for event in told if event]


def tokens_asked(page: Page) -> int:
    """How often the page asked its server for a token."""
    return sum(told["request"]["url"].endswith("/token") for told in page.told("Network.requestWillBeSent"))


@needs_browser
@pytest.mark.xdist_group("clients")
async def test_the_timeline_shows_each_event_once_and_in_order(
    open_gateway: Any, clock: Any, packages: None, free_port: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SocketHandler, "_seconds_until_check", lambda _: 0.2)
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            open_gateway(clock=clock, allowed_origins=(origin,), checkpoint_seconds=0.2)
        )
        workspace, line = await gateway.workspace(), Line(gateway.url)
        url = await stack.enter_async_context(line.laid())
        await stack.enter_async_context(web_server(port, workspace))
        page = await stack.enter_async_context(browsing(tmp_path / "browser"))
        tracked: list[str] = []

        async def track(often: int) -> None:
            for _ in range(often):
                tracked.insert(0, f"step-{len(tracked) + 1}")
                await workspace.track(
                    {"contact": {"externalId": "ada"}, "name": tracked[0]},
                    {"contact": {"externalId": "bob"}, "name": "not hers"},
                )

        @contextlib.asynccontextmanager
        async def tracking_on() -> AsyncIterator[None]:
            """Track all the while."""
            enough = asyncio.Event()

            async def track_until_enough() -> None:
                while not enough.is_set():
                    await track(1)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(track_until_enough())
                yield
                enough.set()

        async def until_shown() -> None:
            await page.until(f"{SHOWN}[0] === {tracked[0]!r}")
            assert await page.evaluate(SHOWN) == tracked

        await track(22)
        line.sockets_come.clear()
        await page.send("Page.navigate", url=f"{origin}/?gateway={quote(url)}&patience=2000")
        await page.until(f"{SHOWN}.length === 20")
        await page.click("button")
        await page.until(f"{SHOWN}.length === 22")
        await track(2)  # between the page and its subscription
        line.sockets_come.set()
        await until_shown()

        async with tracking_on():
            await becomes_true(lambda: len(tracked) >= 30)
            line.cut()
            await becomes_true(lambda: len(tracked) >= 40)
            line.mend()
            await becomes_true(lambda: len(heard(page)) >= 20)
            line.cut()
            await becomes_true(lambda: line.refused > 0)
            line.mend()
            await becomes_true(lambda: len(heard(page)) >= 30)
        await until_shown()

        line.deaden()
        await track(2)
        await until_shown()

        asked = tokens_asked(page)
        monkeypatch.setattr(SocketHandler, "_seconds_until_check", lambda _: 3600)  # from the next socket on
        clock.ahead = timedelta(hours=1)  # longer than the token's quarter of an hour
        await becomes_true(lambda: tokens_asked(page) > asked)
        await track(2)
        await until_shown()
        assert heard(page) == tracked[-23::-1]  # resumed, and nothing came twice

        clock.ahead = timedelta(hours=2)  # as long as no socket is checked, only a request meets it
        asked = tokens_asked(page)
        gateway.runtime.services.bus._fail_all(CursorExpiredError())
        await becomes_true(lambda: tokens_asked(page) > asked)
        await track(1)
        await page.until(f"{SHOWN}[0] === {tracked[0]!r}")
        shown = await page.evaluate(SHOWN)
        assert shown in (tracked[:20], tracked[:21])  # loaded anew, before or after the newest
        assert page.told("Runtime.exceptionThrown") == []
        assert [told["args"] for told in page.told("Runtime.consoleAPICalled") if told["type"] == "error"] == []
