"""One execution of a subscription, and the same bytes of each answer to every socket that asked for the same."""

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
# Of one receiver, beyond the first answer that waits. The answers are shared, and so is what of them is written.
_MOST_WAITING_CHARACTERS = 2_000_000


class SocketSink:
    """One operation of one socket: messages go out in order, and a limited number waits while the socket takes none.

    `write` gives an answer's message as text; `push` sends a frame at once where that can be; `ended` is told once there is
    no more, and why."""

    subscription: "SharedSubscription"

    def __init__(
        self, operation_id: str, limit: int, write: Encode, push: Push | None, send: Send, ended: OnEnd
    ) -> None:
        self.operation_id = operation_id
        self.write = write
        self._limit = limit
        self._push = push
        self._send = send
        self._ended = ended
        self._waiting: deque[Result] = deque()
        self._characters = 0
        self._sending: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def send(self, answer: Result, frame: bytes) -> None:
        """Send an answer, whose frame this is, at once or in its turn; a receiver for which too much waits is ended as too slow."""
        if self._sending is None and self._try_push(frame):
            return
        if len(self._waiting) >= self._limit or self._characters > _MOST_WAITING_CHARACTERS:
            self.leave()
            self.subscription.metrics.queue_drops.inc()
            self._ending = asyncio.create_task(self._ended(SlowReaderError()))
            return
        self._waiting.append(answer)
        self._characters += len(answer.encoded or "")
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_waiting())

    async def drained(self) -> None:
        """Wait until all is sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def end(self, error: Exception | None) -> None:
        """Tell that there is no more, after all that there was."""
        await self.drained()
        await self._ended(error)

    def leave(self) -> None:
        """Take no more."""
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()
        self.subscription.leave(self)

    def _try_push(self, frame: bytes) -> bool:
        try:
            return self._push is not None and self._push(frame)
        except Exception:
            return False  # this socket's own trouble, which it meets when it sends

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                answer = self._waiting.popleft()
                self._characters -= len(answer.encoded or "")
                await self._send(self.write(answer))
        except WebSocketDisconnected:
            self._waiting.clear()
        finally:
            self._sending = None


class SharedSubscription:
    """One execution, by the task that began it for one receiver. One that has caught up joins another that tells the same and has
    caught up, too. A receiver sets the pace as long as it is the only one."""

    def __init__(
        self, alike: "SharingRegistry", receiver: SocketSink, key: Callable[[], Hashable], metrics: Metrics
    ) -> None:
        self.metrics = metrics
        self.sinks = {receiver}
        receiver.subscription = self
        self._alike = alike
        self._key = key
        self._known_as: Hashable = None
        self._subscriber: Subscriber | None = None
        self._task = cast("asyncio.Task[None]", asyncio.current_task())

    async def run(self, answers: AsyncGenerator[Result, None]) -> None:
        """Tell each answer until there is none, or nobody to tell it."""
        error: Exception | None = None
        try:
            async with aclosing(answers):
                async for answer in answers:
                    if (error := answer.end) is not None:
                        break
                    await self._send(answer)
        except Exception as failure:
            error = failure
        finally:
            self._forget()
        await asyncio.gather(*(receiver.end(error) for receiver in self.sinks))

    def on_caught_up(self, subscriber: Subscriber) -> None:
        """Be told that everything up to now was given: whoever tells the same and has come as far is joined."""
        if not self.sinks:
            return
        if self._subscriber is None:
            self._subscriber, self._known_as = subscriber, self._key()
        alike = self._alike.setdefault(self._known_as, set())
        alike.add(self)
        for other in [*alike]:
            if other is not self and other.caught_up:
                small, large = sorted((self, other), key=lambda one: len(one.sinks))
                small._join(large)
                if small is self:
                    return

    @property
    def caught_up(self) -> bool:
        """Whether everything up to now was told."""
        return self._subscriber is not None and self._subscriber.caught_up

    def leave(self, receiver: SocketSink) -> None:
        """Tell that receiver no more; the last one ends the execution."""
        if receiver not in self.sinks:
            return
        self.sinks.discard(receiver)
        if not self.sinks:
            self._forget()
            self._task.cancel()
        elif self._subscriber is not None and self._subscriber.listeners:
            self._subscriber.listeners -= 1
            self.metrics.subscribers.dec()

    def _join(self, other: "SharedSubscription") -> None:
        for receiver in self.sinks:
            receiver.subscription = other
        other.sinks |= self.sinks
        self.sinks = set()
        self._forget()
        assert self._subscriber is not None  # noqa: S101 - who is at rest has one
        assert other._subscriber is not None  # noqa: S101
        self._subscriber.join(other._subscriber)

    def _forget(self) -> None:
        alike = self._alike.get(self._known_as, set())
        alike.discard(self)
        if not alike:
            self._alike.pop(self._known_as, None)

    async def _send(self, answer: Result) -> None:
        frames: dict[str, bytes] = {}
        told = [*self.sinks]
        for receiver in told:
            frame = frames.get(receiver.operation_id)
            if frame is None:
                text = receiver.write(answer).encode()
                frame = frames[receiver.operation_id] = Frame(Opcode.TEXT, text).serialize(mask=False)
            receiver.send(answer, frame)
        if len(told) == 1:
            await told[0].drained()


SharingRegistry = dict[Hashable, set[SharedSubscription]]
