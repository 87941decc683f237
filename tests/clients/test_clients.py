"""Clients that people use, unmodified: npm's graphql-http audits, graphql-ws, Apollo Client and urql, and gql from PyPI."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from gql import Client, GraphQLRequest
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

HERE = Path(__file__).parent


async def run(script: str, *arguments: str) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        "node", script, *arguments, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    return [orjson.loads(line) for line in out.splitlines()]


@pytest.mark.xdist_group("clients")
async def test_every_audit_of_graphql_over_http(open_gateway: Any, packages: None) -> None:
    async with open_gateway(introspection=True) as gateway:  # the audits ask for types
        workspace = await gateway.workspace()
        audits = await run("audit.js", gateway.url, workspace.key)
    assert len(audits) > 60
    assert [audit for audit in audits if audit["status"] != "ok"] == []


@pytest.mark.xdist_group("clients")
async def test_clients_of_the_browser_lose_nothing_when_their_socket_is_cut(workspace: Any, packages: None) -> None:
    name = (await workspace.data("{ viewer { workspace { name } } }"))["viewer"]["workspace"]["name"]
    assert await run("live.js", workspace.gateway.url, workspace.key) == [
        {"client": client, "workspace": name, "same": True} for client in ("graphql-ws", "apollo", "urql")
    ]


@pytest.mark.xdist_group("clients")
async def test_apollo_client_sends_hashes_and_registers_what_is_unknown(workspace: Any, packages: None) -> None:
    name = (await workspace.data("{ viewer { workspace { name } } }"))["viewer"]["workspace"]["name"]
    answered = {"status": 200, "error": None, "name": name}
    assert await run("persisted.js", workspace.gateway.url, workspace.key) == [
        {"method": "GET", "query": False, "status": 200, "error": "PersistedQueryNotFound", "name": None},
        {"method": "POST", "query": True, **answered},
        {"method": "GET", "query": False, **answered},
        {"method": "POST", "query": False, **answered},
        {"method": "socket", "query": True, "name": name},
        {"method": "socket", "query": False, "name": name},
    ]


async def test_gql_from_pypi(workspace: Any) -> None:
    headers = {"Authorization": f"Bearer {workspace.key}"}
    track = GraphQLRequest('mutation { trackEvent(input: {contact: {externalId: "u"}, name: "gql"}) { event { id } } }')
    watch = "subscription($after: String) { eventTracked(after: $after) { cursor event { id } } }"
    async with Client(transport=HTTPXAsyncTransport(url=workspace.gateway.url, headers=headers)) as http:
        cursor = (await http.execute(GraphQLRequest("{ streamCursor }")))["streamCursor"]
        sent, seen = [], []
        for _ in range(2):
            sent += [(await http.execute(track))["trackEvent"]["event"]["id"] for _ in range(2)]
            socket = WebsocketsTransport(
                url=workspace.gateway.url.replace("http", "ws"),
                init_payload=headers,
                subprotocols=["graphql-transport-ws"],
            )
            async with Client(transport=socket) as live:
                async for found in live.subscribe(GraphQLRequest(watch, variable_values={"after": cursor})):
                    cursor = found["eventTracked"]["cursor"]
                    seen.append(found["eventTracked"]["event"]["id"])
                    if len(seen) == len(sent):
                        break
        assert seen == sent
