"""A span for each MongoDB command, with either driver."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

if TYPE_CHECKING:
    from gateway.tracing import CommandSpan, Tracing

# Both drivers start and end a command in the same context (Motor copies the caller's into its thread), one at a time.
# PyMongo Async does not report cancelled commands: in a dict by request id they would pile up, here they go with the task.
_CURRENT_SPAN: "ContextVar[CommandSpan | None]" = ContextVar("gateway_command_span", default=None)


class CommandSpans(CommandListener):
    def __init__(self, tracing: "Tracing") -> None:
        self._tracing = tracing

    def started(self, event: CommandStartedEvent) -> None:
        target = event.command.get("collection" if event.command_name == "getMore" else event.command_name)
        collection = target if isinstance(target, str) else None
        host, port = event.connection_id
        _CURRENT_SPAN.set(self._tracing.command(event.command_name, event.database_name, collection, (host, port or 0)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._end(None)

    def failed(self, event: CommandFailedEvent) -> None:
        """End the span with the error's name. Its message may quote stored data."""
        failure = event.failure
        self._end(str(failure.get("codeName") or failure.get("errtype") or failure.get("code") or "unknown"))

    def _end(self, error_name: str | None) -> None:
        span = _CURRENT_SPAN.get()
        if span is not None:
            span.end(error_name)
            _CURRENT_SPAN.set(None)
