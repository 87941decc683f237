"""Uvicorn's HTTP/1.1 with limits on size and duration of requests."""

import asyncio
from typing import Any, cast

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.server.connections import Connection, Connections, WriteProgress
from gateway.server.uvicorn_websocket import SocketProtocol

_MOST_PIPELINED = 16
_LINGER_SECONDS, _LINGER_BYTES = 1.0, 4_194_304  # what the system buffers of a request, approximately
_DISCARDED_BODIES = (
    20  # an oversized message is read up to this many times its limit, so that its sender reads the response
)
_FOREVER = float("inf")
_log = structlog.get_logger("gateway.server.uvicorn_http")


class RefusedRequestError(Exception):
    """A request breaks a limit of the transport. It gets this status and its connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ResponseOutput:
    """The transport of responses. uvloop raises on a write between the end of a connection and the report of that end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
        self.close = transport.close

    def write(self, data: bytes) -> None:
        """Write, or discard what nobody can receive any more."""
        if not self._transport.is_closing():
            self._transport.write(data)


class HttpProtocol(HttpToolsProtocol):
    """One connection. The bytes of each message are counted from its start; its headers, then its body, have a deadline."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._limits = connections.settings
        self.url = b""  # uvicorn sets it with the first message
        self._received = 0  # bytes of the current message, without those that came with the end of the previous one
        self._body_received = 0
        self._may_be_too_large = False
        self._in_body = False
        self._upgrades = False
        self._deadline: float | None = None
        self._refusal: RefusedRequestError | None = None
        self._is_refused = False  # whether the refusal was written
        self._writes: WriteProgress
        self._output: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or respond 503 if there are too many."""
        super().connection_made(transport)
        self._output = cast("asyncio.Transport", ResponseOutput(transport))
        self._writes = WriteProgress(transport, self._limits)
        self._deadline = self._next_deadline()
        if not self._connections.add(self, self.client[0] if self.client else ""):
            self._refusal = RefusedRequestError(503, "Too many connections: try again later.")
            self._write(self._refusal)
            transport.close()

    def resume_writing(self) -> None:
        """Restart the measurement of writes: the peer reads again."""
        self._writes.restart()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; discard it if the connection is about to close."""
        if self._refusal is not None:
            self._discard(data)
            return
        if not self._received:
            self._deadline = None
        self._received += len(data)
        self._may_be_too_large = self._received > self._limits.max_header_bytes
        try:
            self._feed(data)
            if self._received or self._in_body:
                self._check_unfinished()
        except RefusedRequestError as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(
                cause if isinstance(cause, RefusedRequestError) else RefusedRequestError(400, "Invalid HTTP request.")
            )

    def on_headers_complete(self) -> None:
        if len(self.headers) > self._limits.max_headers:
            raise RefusedRequestError(431, f"Send at most {self._limits.max_headers} headers.")
        if self._may_be_too_large and self._header_size() > self._limits.max_header_bytes:
            raise self._too_large()
        self._upgrades = False
        if self.parser.should_upgrade():
            self._upgrades = self._should_upgrade()
            self._check_upgrade()
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise RefusedRequestError(400, f"Send at most {_MOST_PIPELINED} requests before you read their responses.")
        super().on_headers_complete()
        if self._upgrades:
            return
        self._in_body = True
        self._deadline = None
        if self.scope["http_version"] != "1.1":
            self._check_version()
        if self.expect_100_continue:
            self.cycle.keep_alive = False  # after a response the peer may or may not send the body
        self.headers = []  # uvicorn would append trailers here

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body to the application; discard it after the response."""
        self._body_received += len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._in_body and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        self._received = self._body_received = 0
        self._in_body = False
        is_answered = self.cycle is not None and self.cycle.response_complete
        self._deadline = self._idle_deadline() if is_answered else None

    def on_response_complete(self) -> None:
        """Start the next pipelined request, send a pending refusal, or wait.

        Uvicorn's own method starts a timer per wait, which costs as much as all these limits."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._end()
        elif not (self._received or self._in_body):
            self._deadline = self._idle_deadline()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        protocol = cast("SocketProtocol", self.transport.get_protocol())
        self._connections.replace(self, cast("Connection", protocol))
        protocol.refuse_failed_handshake()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.transport = self._output
        super()._start_asgi_task(cycle, app)

    def look(self, now: float) -> None:
        if self.flow.write_paused or self.transport.is_closing():
            if self._writes.is_stalled(now):
                self.transport.abort()
        elif self._deadline is not None and now >= self._deadline and now >= self._deadline + self._extension():
            self._end_late()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._upgrades:
                    self._received = 0
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]  # the upgrade was ignored, so HTTP continues
            else:
                return

    def _check_unfinished(self) -> None:
        if self._deadline is None:
            self._deadline = self._next_deadline()
        most = self._limits.max_header_bytes
        if not self._in_body:
            if self._received > most:
                raise self._too_large()
            return
        if self._received - self._body_received > 2 * most + self._body_received:
            raise RefusedRequestError(400, "Send larger chunks, without long extensions and trailers.")
        if self._body_received > _DISCARDED_BODIES * self._limits.max_body_bytes and self.cycle.response_complete:
            raise RefusedRequestError(413, "The request body is too large.")

    def _header_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> RefusedRequestError:
        most = self._limits.max_header_bytes
        if len(self.url) >= most:
            return RefusedRequestError(414, f"The URL is larger than {most} bytes: send the operation by POST.")
        return RefusedRequestError(431, f"The headers are larger than {most} bytes: send fewer or shorter ones.")

    def _check_upgrade(self) -> None:
        names = {name for name, _ in self.headers}
        if b"transfer-encoding" in names or (self._upgrades and b"content-length" in names):
            # After an upgrade the parser leaves chunks unread: they would be parsed as further requests.
            raise RefusedRequestError(400, "Send no body with an upgrade.")
        if self._upgrades and self.cycle is not None and not self.cycle.response_complete:
            raise RefusedRequestError(400, "Open a websocket after the responses to earlier requests.")

    def _check_version(self) -> None:
        if self.scope["http_version"] != "1.0":
            raise RefusedRequestError(505, "Use HTTP/1.1.")
        if any(name == b"transfer-encoding" for name, _ in self.headers):
            raise RefusedRequestError(400, "Use HTTP/1.1 to send a body in chunks.")

    def _next_deadline(self) -> float:
        seconds = self._limits.body_seconds if self._in_body else self._limits.header_seconds
        return self.loop.time() + (seconds or _FOREVER)

    def _idle_deadline(self) -> float:
        return self.loop.time() + self._limits.keep_alive_seconds

    def _extension(self) -> float:
        """The extra seconds that a body earns by what has arrived."""
        rate = self._limits.min_bytes_per_second
        return self._received / rate if self._in_body and rate else 0.0

    def _end_late(self) -> None:
        if self._is_refused or not (self._received or self._in_body):
            self.transport.close()
        elif self.flow.read_paused:
            self._deadline = self._next_deadline()  # the gateway paused reading, so the peer is not late
        else:
            part = "body" if self._in_body else "headers"
            self._refuse(RefusedRequestError(408, f"The {part} of the request took too long to arrive."))

    def _refuse(self, refusal: RefusedRequestError) -> None:
        """Refuse the current message, after the responses to all earlier requests."""
        _log.info(
            "request refused", status=refusal.status, reason=refusal.message, address=self.client and self.client[0]
        )
        self._refusal = refusal
        self._deadline = None
        if self._in_body and self.pipeline:
            self.pipeline.popleft()  # the newest one
        elif self._in_body or self.cycle is None or self.cycle.response_complete:
            self._end()
            return
        self.flow.pause_reading()

    def _end(self) -> None:
        """Send the refusal, unless a response has begun, and close after the peer had time to read it."""
        assert self._refusal is not None  # noqa: S101 - only called with a refusal
        is_answered = False
        if self._in_body:
            is_answered = self.cycle.response_started
            self.cycle.disconnected, self.cycle.waiting_for_100_continue = True, False
            self.cycle.message_event.set()
        if not is_answered:
            self._write(self._refusal)
        # Closing now would reset the connection while the peer sends, and it could lose the response.
        self._is_refused, self._received = True, 0
        self._deadline = self.loop.time() + _LINGER_SECONDS
        self.flow.resume_reading()
        self.transport.write_eof()

    def _discard(self, data: bytes) -> None:
        self._received += len(data)
        if self._is_refused and self._received > _LINGER_BYTES:
            self.transport.close()

    def _write(self, refusal: RefusedRequestError) -> None:
        body = refusal.message.encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join((STATUS_LINE[refusal.status], *lines, b"\r\n", body)))
