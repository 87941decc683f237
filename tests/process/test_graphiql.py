"""GraphiQL as people meet it: in a real browser, with the key in place, asking and listening, offline."""

import asyncio
import contextlib
import html
import itertools
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import websockets

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,900", "--remote-debugging-port=0",
)  # fmt: skip
KEY = "dev_\"><b>&'key"
TRACK = 'mutation($name: String!) { trackEvent(input: {contact: {externalId: "u"}, name: $name}) { userErrors { message } } }'
MODELS = "globalThis.__MONACO?.editor.getModels()"
RESPONSE = f"{MODELS}?.find(model => model.uri.path.endsWith('-response.json'))?.getValue()"


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
                    self.observed.add(asyncio.create_task(self.observe(message["params"]["sessionId"])))

    async def send(self, method: str, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._connection.send(orjson.dumps(message).decode())
        answer = await asyncio.wait_for(self._answers[number], 60)
        assert "error" not in answer, answer
        return answer["result"]

    async def observe(self, session: str | None = None) -> None:
        """Hear what is requested, printed and thrown there, from its first line on."""
        for domain in ("Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable", session)
        await self.send("Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        await self.send("Runtime.runIfWaitingForDebugger", session)

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


@dataclass
class Dev:
    """A `gateway dev` that answers."""

    url: str
    http: httpx.AsyncClient

    async def track(self, name: str) -> None:
        body = {"query": TRACK, "variables": {"name": name}}
        answer = await self.http.post(f"{self.url}graphql", json=body, headers={"authorization": f"Bearer {KEY}"})
        assert answer.json() == {"data": {"trackEvent": {"userErrors": []}}}

    async def until_subscribed(self, often: int) -> None:
        for _ in range(1200):
            if f"gateway_subscribers {often}.0" in (await self.http.get(f"{self.url}metrics")).text:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never {often} subscribers")


@pytest.fixture
async def dev(request: Any, program: Any, free_port: Any, started: Any) -> AsyncIterator[Dev]:
    port, settings = free_port(), {"GATEWAY_DEV_KEY": KEY, **getattr(request, "param", {})}
    async with started(program, port, "dev", "--no-demo", "--port", str(port), **settings):
        async with httpx.AsyncClient(timeout=60) as http:
            yield Dev(f"http://127.0.0.1:{port}/", http)


@pytest.mark.skipif(BROWSER is None, reason="left out: neither Chromium nor Chrome is installed")
async def test_a_browser_asks_and_listens_and_reaches_nobody_else(dev: Dev, tmp_path: Path) -> None:
    await dev.track("came by")
    async with browsing(tmp_path / "browser") as page:
        await page.send("Page.navigate", url=dev.url)
        await page.until(f"{RESPONSE} === ''")
        await page.click(".graphiql-execute-button")
        await page.until(f"{RESPONSE}.includes('came by')")
        answer = orjson.loads(await page.evaluate(RESPONSE))
        (contact,) = answer["data"]["contacts"]["nodes"]
        assert contact["eventSummaries"]["nodes"][0]["count"] == 1
        assert contact["events"]["nodes"][0]["name"] == "came by"

        await page.click("#graphiql-session-tab-1")
        # Only what is kept after the operation was read shows that the button knows it for a subscription.
        await page.until("localStorage.getItem('graphiql:tabState')?.includes('\"activeTabIndex\":1')")
        await page.click(".graphiql-execute-button")
        await dev.until_subscribed(1)
        await dev.track("bought it")
        await page.until(f"{RESPONSE}.includes('bought it')")
        assert orjson.loads(await page.evaluate(RESPONSE))["data"]["eventTracked"]["kind"] == "TRACKED"
        await page.click(".graphiql-execute-button")
        await dev.until_subscribed(0)

        await page.evaluate(f"{MODELS}.find(model => model.uri.path.endsWith('.graphql')).setValue('{{ nothing }}')")
        marks = "globalThis.__MONACO.editor.getModelMarkers({}).map(mark => mark.message).join()"
        assert "Cannot query field" in await page.until(marks)

        assert {urlsplit(url).netloc for url in page.requested} == {urlsplit(dev.url).netloc}
        scripts = {url.rpartition("/")[2] for url in page.requested}
        assert {"graphiql.js", "graphiql.css", "graphql.worker.js", "json.worker.js"} <= scripts
        assert page.complaints == []
        assert "dev_" not in await page.evaluate("JSON.stringify(localStorage)")


@pytest.mark.parametrize(
    "dev",
    [{"GATEWAY_ALLOWED_ORIGINS": '["https://app.example.com"]', "GATEWAY_INTROSPECTION": "false"}],
    indirect=True,
    ids=["set"],
)
async def test_the_page_with_the_key_is_for_this_machine_alone(dev: Dev) -> None:
    port = urlsplit(dev.url).port
    page = await dev.http.get(dev.url)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert f'data-key="{html.escape(KEY)}"' in page.text
    assert KEY not in page.text
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert (await dev.http.get(dev.url, headers={"host": f"{host}:{port}"})).text == page.text
    for host in (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "",
        "localhost@evil.example",
    ):
        refused = await dev.http.get(dev.url, headers={"host": host})
        assert (refused.status_code, "dev_" in refused.text) == (400, False), host
    for method in ("GET", "OPTIONS"):
        asked = {"origin": "https://app.example.com", "access-control-request-method": "GET"}
        assert "access-control-allow-origin" not in (await dev.http.request(method, dev.url, headers=asked)).headers
        allowed = await dev.http.request(method, f"{dev.url}graphql?query={{__typename}}", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"

    addresses = re.findall(r'(?:src|href)="(graphiql/[^"]+)"', page.text)
    assets = [await dev.http.get(dev.url + address) for address in addresses]
    assert [asset.status_code for asset in assets] == [200, 200]
    assert {asset.headers["cache-control"] for asset in assets} == {"public, max-age=31536000, immutable"}
    for answer in (page, *assets):
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
        assert policy["frame-ancestors"] == "'none'"
        assert (answer.headers["x-content-type-options"], answer.headers["x-frame-options"]) == ("nosniff", "DENY")
    folder = addresses[0].rpartition("/")[0]
    for address in (f"{folder}/%2e%2e/pages.py", f"{folder}/nothing.js", "graphiql/another/graphiql.js"):
        assert (await dev.http.get(dev.url + address)).status_code == 404
    asked = await dev.http.post(f"{dev.url}graphql", json={"query": "{ __schema { queryType { name } } }"})
    assert asked.status_code == 403
