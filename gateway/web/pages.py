"""GraphiQL at `/`: bundled in this package, under headers that allow requests to the gateway alone."""

import json
from html import escape
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUNDLE = Path(__file__).parent / "graphiql"
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    # The editor needs inline styles; scripts come from the bundle alone.
    "content-security-policy": "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GraphiQL</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{assets}/graphiql.css">
<script type="module" src="{assets}/graphiql.js"></script>
</head>
<body><div id="graphiql" data-key="{key}"></div></body>
</html>
"""


def graphiql_routes(key: str | None) -> list[BaseRoute]:
    """Return the routes of GraphiQL and its assets; a page with a key is served to this machine alone."""
    assets = f"graphiql/{_fingerprint()}"
    page = _PAGE.format(assets=assets, key=escape(key or ""))

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers={"cache-control": "no-store"})

    # DNS rebinding: a foreign host name that resolves to this machine would share this page's origin.
    local = [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_HOSTS)] if key else []
    hardened = Middleware(_Hardened)
    return [
        Route("/", show, middleware=[hardened, *local]),
        Mount(f"/{assets}", _Assets(directory=BUNDLE), middleware=[hardened]),
    ]


def _fingerprint() -> str:
    """Return the bundle's hash. It is part of the URL, so browsers may cache assets forever."""
    recorded: dict[str, str] = json.loads((BUNDLE / "bundle.json").read_bytes())
    return recorded["files"][:16]


class _Assets(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


class _Hardened:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_hardened)
