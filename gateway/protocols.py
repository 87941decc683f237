"""Uvicorn's websockets, with the patience that a gateway has for a peer that takes nothing."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State


class SocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's websockets, but a peer that takes nothing is cut off: a ping or a close would only queue behind the rest."""

    stalled_seconds: ClassVar[float] = 30.0
    _look: asyncio.TimerHandle | None = None

    async def run_asgi(self) -> None:
        """Serve the socket; its scope says how frames that are written already are sent."""
        self.scope["gateway.push"] = self.push  # type: ignore[typeddict-unknown-key]
        await super().run_asgi()

    def push(self, frame: bytes) -> bool:
        """Send an uncompressed frame now; whether that could be: nothing waits before it, and nothing is compressed."""
        if not self.writable.is_set() or self.conn.state is not State.OPEN or self.conn.extensions or self.disconnected:
            return False
        self.transport.write(frame)
        return True

    def pause_writing(self) -> None:
        """The peer does not keep up: look again and again whether it takes anything."""
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The peer keeps up."""
        self._stop_looking()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self._stop_looking()
        super().connection_lost(exc)

    def _look_again(self, waiting: int) -> None:
        self._look = self.loop.call_later(self.stalled_seconds, self._cut_off, waiting)

    def _cut_off(self, waited: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < waited:
            self._look_again(waiting)
        else:
            self.transport.abort()

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
