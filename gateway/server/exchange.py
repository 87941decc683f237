"""One HTTP request and its response over ASGI: lighter than Starlette's, since most operations are short."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.errors import LimitExceededError
from gateway.services.rate_limits import Allowance


@dataclass(slots=True)
class Reply:
    content: bytes
    status: int
    kind: str
    headers: dict[str, str] = field(default_factory=dict)


class Exchange:
    """A request that is read once and answered once; `allowance` is set when the caller has been identified."""

    __slots__ = ("_is_read", "_receive", "_scope", "_send", "allowance", "headers")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_read = False
        self.allowance: Allowance | None = None
        # By lower-case name; of repeated headers the first counts.
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }

    @property
    def method(self) -> str:
        return str(self._scope["method"])

    @property
    def address(self) -> str:
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    @property
    def query(self) -> dict[str, str]:
        return dict(QueryParams(self._scope["query_string"]))

    async def body(self, most: int) -> bytes:
        """Read the body. Raises LimitExceededError above `most` bytes, ClientDisconnect if the client leaves."""
        body, more_follows = bytearray(), True
        while more_follows:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > most:
                raise LimitExceededError(f"The request body is larger than {most} bytes: send less at once.")
            more_follows = message.get("more_body", False)
        self._is_read = True
        return bytes(body)

    async def respond(self, reply: Reply) -> None:
        headers = [
            (b"content-length", b"%d" % len(reply.content)),
            (b"content-type", f"{reply.kind}; charset=utf-8".encode()),
            *((name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()),
        ]
        if not self._is_read and "expect" in self.headers:
            headers.append((b"connection", b"close"))  # the client waits for a 100 and may never send its body
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.content})
