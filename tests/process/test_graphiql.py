"""GraphiQL as people meet it: in a real browser, with the key in place, asking and listening, offline."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from browsers import browsing, needs_browser

KEY = "dev_\"><b>&'key"
TRACK = 'mutation($name: String!) { trackEvent(input: {contact: {externalId: "u"}, name: $name}) { userErrors { message } } }'
MODELS = "globalThis.__MONACO?.editor.getModels()"
RESPONSE = f"{MODELS}?.find(model => model.uri.path.endsWith('-response.json'))?.getValue()"


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


@needs_browser
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
    assert asked.status_code == 401
