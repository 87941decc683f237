"""A span for each command that an operation sends to MongoDB, with either driver."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

if TYPE_CHECKING:
    from gateway.tracing import CommandSpan, Tracing

# The command that is under way: both drivers begin and end one in the same context (Motor takes a copy of the caller's
# into its thread), one after the other. PyMongo Async does not tell of commands that are cancelled: by their request
# ids they would pile up, here they go with the task.
_UNDER_WAY: "ContextVar[CommandSpan | None]" = ContextVar("gateway_command_span", default=None)


class CommandSpans(CommandListener):
    """Told of every command by the driver."""

    def __init__(self, tracing: "Tracing") -> None:
        self._tracing = tracing

    def started(self, event: CommandStartedEvent) -> None:
        """Begin a span, below that of the operation."""
        named = event.command.get("collection" if event.command_name == "getMore" else event.command_name)
        collection = named if isinstance(named, str) else None
        host, port = event.connection_id
        _UNDER_WAY.set(self._tracing.command(event.command_name, event.database_name, collection, (host, port or 0)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """End it."""
        self._end(None)

    def failed(self, event: CommandFailedEvent) -> None:
        """End it with the error's name: its message may quote what is stored."""
        told = event.failure
        self._end(str(told.get("codeName") or told.get("errtype") or told.get("code") or "unknown"))

    def _end(self, failure: str | None) -> None:
        span = _UNDER_WAY.get()
        if span is not None:
            span.end(failure)
            _UNDER_WAY.set(None)
