"""A real browser, headless, spoken to by the DevTools protocol."""

import asyncio
import contextlib
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import websockets

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,900", "--remote-debugging-port=0",
)  # fmt: skip
SESSION_NOT_FOUND = -32001
needs_browser = pytest.mark.skipif(BROWSER is None, reason="left out: neither Chromium nor Chrome is installed")


class TargetEndedError(Exception):
    """The worker that was spoken to has ended."""


class Page:
    """A page of a browser and its workers, spoken to by the DevTools protocol."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.observed: set[asyncio.Task[None]] = set()
        self.events: list[dict[str, Any]] = []

    async def listen(self) -> None:
        async for text in self._connection:
            message = orjson.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            else:
                self.events.append(message)
                if message["method"] == "Target.attachedToTarget":
                    self.observed.add(asyncio.create_task(self._observe_worker(message["params"]["sessionId"])))

    async def send(self, method: str, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._connection.send(orjson.dumps(message).decode())
        answer = await asyncio.wait_for(self._answers[number], 60)
        if answer.get("error", {}).get("code") == SESSION_NOT_FOUND:
            raise TargetEndedError(answer)
        assert "error" not in answer, answer
        return answer["result"]

    async def observe(self, session: str | None = None) -> None:
        """Hear what is requested, printed and thrown there, from its first line on."""
        for domain in ("Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable", session)
        await self.send("Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        await self.send("Runtime.runIfWaitingForDebugger", session)

    async def _observe_worker(self, session: str) -> None:
        with contextlib.suppress(TargetEndedError):  # a page may end its worker at any time
            await self.observe(session)

    async def evaluate(self, expression: str) -> Any:
        found = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """The first value of the expression that is true."""
        for _ in range(1200):
            if found := await self.evaluate(expression):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"in vain for {expression}")

    async def click(self, selector: str) -> None:
        box = f"document.querySelector({selector!r})?.getBoundingClientRect()"
        x, y = await self.until(f"(box => box && [box.x + box.width / 2, box.y + box.height / 2])({box})")
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def told(self, method: str) -> list[Any]:
        return [event["params"] for event in self.events if event["method"] == method]

    @property
    def requested(self) -> set[str]:
        urls = {told["request"]["url"] for told in self.told("Network.requestWillBeSent")}
        urls |= {told["url"] for told in self.told("Network.webSocketCreated")}
        return {url for url in urls if not url.startswith("data:")}

    @property
    def complaints(self) -> list[Any]:
        printed = [told for told in self.told("Runtime.consoleAPICalled") if told["type"] in ("error", "assert")]
        logged = [told for told in self.told("Log.entryAdded") if told["entry"]["level"] == "error"]
        return printed + logged + self.told("Runtime.exceptionThrown")


@contextlib.asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """An empty page of a new browser."""
    process = subprocess.Popen(
        [str(BROWSER), *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with websockets.connect(await _address(folder), max_size=None) as connection:
            page = Page(connection)
            listening = asyncio.create_task(page.listen())
            await page.observe()
            yield page
            await asyncio.gather(*page.observed)
            listening.cancel()
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _address(folder: Path) -> str:
    """Where the browser's page is spoken to, once it is."""
    for _ in range(1200):
        with contextlib.suppress(OSError, ValueError, IndexError, httpx.HTTPError):
            port = int((folder / "DevToolsActivePort").read_text().split()[0])
            async with httpx.AsyncClient() as http:
                targets = (await http.get(f"http://127.0.0.1:{port}/json/list")).json()
            (page,) = [target for target in targets if target["type"] == "page"]
            return str(page["webSocketDebuggerUrl"])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser did not start")
