"""One execution of a subscription, with the bytes of each result shared by every socket that subscribed alike."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Hashable
from contextlib import aclosing
from typing import cast

from strawberry.http.exceptions import WebSocketDisconnected
from websockets.frames import Frame, Opcode

from gateway.bus.subscribers import Subscriber
from gateway.errors import SlowReaderError
from gateway.execution.executor import Result
from gateway.observability import Metrics

Push = Callable[[bytes], bool]
Send = Callable[[str], Awaitable[None]]
OnEnd = Callable[[Exception | None], Coroutine[None, None, None]]
Encode = Callable[[Result], str]
# Per sink, beyond the first result that waits. Sinks share the results and their encoded text.
_MOST_WAITING_CHARACTERS = 2_000_000


class SocketSink:
    """One operation of one socket. Results go out in order; a limited number waits while the socket is busy.

    `write` encodes a result as a message; `push` sends a frame at once if the socket can take it; `on_end` is called
    once at the end, with the error if there is one."""

    subscription: "SharedSubscription"

    def __init__(
        self, operation_id: str, limit: int, write: Encode, push: Push | None, send: Send, on_end: OnEnd
    ) -> None:
        self.operation_id = operation_id
        self.write = write
        self._limit = limit
        self._push = push
        self._send = send
        self._on_end = on_end
        self._waiting: deque[Result] = deque()
        self._characters = 0
        self._sending: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def send(self, result: Result, frame: bytes) -> None:
        """Send a result, encoded as `frame`, now or in its turn. A sink with too much waiting ends as too slow."""
        if self._sending is None and self._try_push(frame):
            return
        if len(self._waiting) >= self._limit or self._characters > _MOST_WAITING_CHARACTERS:
            self.leave()
            self.subscription.metrics.queue_drops.inc()
            self._ending = asyncio.create_task(self._on_end(SlowReaderError()))
            return
        self._waiting.append(result)
        self._characters += len(result.encoded or "")
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_waiting())

    async def drained(self) -> None:
        """Wait until every result is sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def end(self, error: Exception | None) -> None:
        await self.drained()
        await self._on_end(error)

    def leave(self) -> None:
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()
        self.subscription.leave(self)

    def _try_push(self, frame: bytes) -> bool:
        try:
            return self._push is not None and self._push(frame)
        except Exception:
            return False  # the same error comes again when this socket sends

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                result = self._waiting.popleft()
                self._characters -= len(result.encoded or "")
                await self._send(self.write(result))
        except WebSocketDisconnected:
            self._waiting.clear()
        finally:
            self._sending = None


class SharedSubscription:
    """One subscription execution shared by several sockets. Equal subscriptions merge once both are caught up. With a
    single socket its backpressure applies."""

    def __init__(
        self, registry: "SharingRegistry", sink: SocketSink, key: Callable[[], Hashable], metrics: Metrics
    ) -> None:
        self.metrics = metrics
        self.sinks = {sink}
        sink.subscription = self
        self._registry = registry
        self._key = key
        self._sharing_key: Hashable = None
        self._subscriber: Subscriber | None = None
        self._task = cast("asyncio.Task[None]", asyncio.current_task())

    async def run(self, results: AsyncGenerator[Result, None]) -> None:
        """Send each result to every sink until the results end or no sink is left."""
        error: Exception | None = None
        try:
            async with aclosing(results):
                async for result in results:
                    if (error := result.end) is not None:
                        break
                    await self._send(result)
        except Exception as exception:
            error = exception
        finally:
            self._forget()
        await asyncio.gather(*(sink.end(error) for sink in self.sinks))

    def on_caught_up(self, subscriber: Subscriber) -> None:
        """Register as caught up, and merge with an equal subscription that is caught up, too."""
        if not self.sinks:
            return
        if self._subscriber is None:
            self._subscriber, self._sharing_key = subscriber, self._key()
        peers = self._registry.setdefault(self._sharing_key, set())
        peers.add(self)
        for other in [*peers]:
            if other is not self and other.caught_up:
                small, large = sorted((self, other), key=lambda subscription: len(subscription.sinks))
                small._join(large)
                if small is self:
                    return

    @property
    def caught_up(self) -> bool:
        """Whether every event up to now was sent."""
        return self._subscriber is not None and self._subscriber.caught_up

    def leave(self, sink: SocketSink) -> None:
        if sink not in self.sinks:
            return
        self.sinks.discard(sink)
        if not self.sinks:
            self._forget()
            self._task.cancel()
        elif self._subscriber is not None and self._subscriber.listeners:
            self._subscriber.listeners -= 1
            self.metrics.subscribers.dec()

    def _join(self, other: "SharedSubscription") -> None:
        for sink in self.sinks:
            sink.subscription = other
        other.sinks |= self.sinks
        self.sinks = set()
        self._forget()
        assert self._subscriber is not None  # noqa: S101 - a caught-up subscription has one
        assert other._subscriber is not None  # noqa: S101
        self._subscriber.join(other._subscriber)

    def _forget(self) -> None:
        peers = self._registry.get(self._sharing_key, set())
        peers.discard(self)
        if not peers:
            self._registry.pop(self._sharing_key, None)

    async def _send(self, result: Result) -> None:
        frames: dict[str, bytes] = {}
        sinks = [*self.sinks]
        for sink in sinks:
            frame = frames.get(sink.operation_id)
            if frame is None:
                text = sink.write(result).encode()
                frame = frames[sink.operation_id] = Frame(Opcode.TEXT, text).serialize(mask=False)
            sink.send(result, frame)
        if len(sinks) == 1:
            await sinks[0].drained()


SharingRegistry = dict[Hashable, set[SharedSubscription]]
