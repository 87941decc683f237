"""Uvicorn's options, shared by `gateway dev` and `gateway serve`."""

from functools import partial
from typing import Any

from gateway.server.connections import Connections
from gateway.server.uvicorn_http import HttpProtocol
from gateway.server.uvicorn_websocket import SocketProtocol
from gateway.settings import Settings

DRAIN_SECONDS = 5


def server_options(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options; each process counts its own connections."""
    connections = Connections(settings)
    return {
        "http": partial(HttpProtocol, connections=connections),
        "ws": partial(SocketProtocol, connections=connections),
        "ws_max_size": settings.max_body_bytes,
        "ws_per_message_deflate": False,  # costs more memory per socket than it saves in traffic
        "timeout_graceful_shutdown": DRAIN_SECONDS,
        "server_header": False,
        "log_config": None,
    }
