"""Uvicorn's websockets with limits on frames, and a timeout for peers that do not read."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.server.connections import Connections, WriteProgress

FIRST_MESSAGES_BYTES = 65_536
_MOST_FRAMES_AT_ONCE = 1000
_SMALL_BYTES = 128
_SMALL_FRAMES, _SMALL_FRAMES_PER_SECOND = 200, 10
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class FrameLimits(ServerProtocol):
    """The websocket protocol with a rate limit on pings, pongs and small fragments."""

    def __init__(self, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(**options)
        self._clock = clock
        self._small_frames, self._counted_at = float(_SMALL_FRAMES), clock()

    def recv_frame(self, frame: Frame) -> None:
        """Receive one frame; raises ProtocolError, which closes the connection, if there are too many."""
        if len(self.events) >= _MOST_FRAMES_AT_ONCE:
            raise ProtocolError("too many frames at once")
        is_message = frame.fin and frame.opcode in (Opcode.TEXT, Opcode.BINARY)
        if not is_message and len(frame.data) < _SMALL_BYTES:
            self._count_small_frame()
        super().recv_frame(frame)

    def _count_small_frame(self) -> None:
        now = self._clock()
        refilled = self._small_frames + (now - self._counted_at) * _SMALL_FRAMES_PER_SECOND
        self._small_frames, self._counted_at = min(_SMALL_FRAMES, refilled) - 1, now
        if self._small_frames < 0:
            raise ProtocolError("too many control frames or small fragments")


class SocketProtocol(WebSocketsSansIOProtocol):
    """Aborts connections whose peer does not read: a ping or close frame would only queue behind the rest."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self.conn = FrameLimits(
            self.loop.time,
            extensions=self.conn.available_extensions,
            max_size=min(self.config.ws_max_size, FIRST_MESSAGES_BYTES),
            logger=self.logger,
        )
        self._writes: WriteProgress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._writes = WriteProgress(self.transport, self._connections.settings)

    def resume_writing(self) -> None:
        """Restart the measurement of writes: the peer reads again."""
        self._writes.restart()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        """Serve the socket. The scope carries `push` and `accept_large_messages` for the GraphQL handler."""
        self.scope["gateway.push"] = self.push  # type: ignore[typeddict-unknown-key]
        self.scope["gateway.accept_large_messages"] = self.accept_large_messages  # type: ignore[typeddict-unknown-key]
        await super().run_asgi()

    def push(self, frame: bytes) -> bool:
        """Write an encoded frame now; False if other data waits or the socket compresses."""
        if not self.writable.is_set() or self.conn.state is not State.OPEN or self.conn.extensions or self.disconnected:
            return False
        self.transport.write(frame)
        return True

    def accept_large_messages(self) -> None:
        """Raise the message limit to the settings', once the peer is authenticated."""
        self.conn.max_message_size = self.config.ws_max_size

    def refuse_failed_handshake(self) -> None:
        """Respond to an invalid handshake and close; uvicorn would wait for more data."""
        if self.conn.handshake_exc is None or self.transport.is_closing():
            return
        self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_REQUEST)
        self.transport.close()

    def look(self, now: float) -> None:
        is_backed_up = self.transport.is_closing() or not self.writable.is_set()
        if is_backed_up and self._writes.is_stalled(now):
            self.transport.abort()
