"""OpenTelemetry spans for operations and database commands, without the text of either.

Only imported if GATEWAY_TRACING is set, and OpenTelemetry with it."""

import asyncio
import importlib.metadata
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PATH = "/v1/traces"
_SEND_SECONDS = 5.0
_LONGEST_ATTRIBUTE = 200  # callers choose the names of operations
_log = structlog.get_logger("gateway.tracing")


class OperationSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def name_operation(self, kind: str | None, name: str | None) -> None:
        if kind is not None:
            self._span.update_name(kind)
            self._span.set_attribute("graphql.operation.type", kind)
        if name is not None:
            self._span.set_attribute("graphql.operation.name", name)

    def failed(self, code: str, status: int) -> None:
        """Record the error's code; only the gateway's own failures (5xx) set the error status."""
        if not self._span.is_recording():  # a subscription's span ends with its start
            return
        self._span.set_attribute("error.type", code)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class CommandSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, failure: str | None) -> None:
        """End the span; `failure` is the name of the server's or driver's error."""
        if failure is not None:
            self._span.set_attribute("error.type", failure)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """The tracer of one process. Its own thread exports spans in batches."""

    def __init__(self, endpoint: str) -> None:
        # _Exporter logs a failure once; the library would log it for every batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Exporter(endpoint)
        limits = SpanLimits(max_span_attribute_length=_LONGEST_ATTRIBUTE)
        self._provider = TracerProvider(resource=_resource(), span_limits=limits, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("gateway")
        self._propagator = TraceContextTextMapPropagator()

    async def close(self) -> None:
        """Export what is left, for a few seconds at most, and end the thread."""
        self._exporter.close()
        await asyncio.to_thread(self._provider.shutdown)

    @contextmanager
    def continued(self, carrier: Mapping[str, str]) -> Iterator[None]:
        """Continue the trace of the carrier's `traceparent`, or start a new one."""
        token = attach(self._propagator.extract(carrier, Context()))
        try:
            yield
        finally:
            detach(token)

    @contextmanager
    def operation(self, request_id: str) -> Iterator[OperationSpan]:
        """Open the span of an operation; log lines inside carry its trace id."""
        with (
            self._tracer.start_as_current_span(
                "GraphQL Operation",
                kind=SpanKind.SERVER,
                attributes={"gateway.request_id": request_id},
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
            structlog.contextvars.bound_contextvars(trace_id=format_trace_id(span.get_span_context().trace_id)),
        ):
            try:
                yield OperationSpan(span)
            except BaseException as error:  # cancelled: the client left
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    def command(self, name: str, database: str, collection: str | None, address: tuple[str, int]) -> CommandSpan | None:
        """Start the span of a MongoDB command; None outside a recorded operation, as for the bus."""
        if not trace.get_current_span().is_recording():
            return None
        attributes: dict[str, str | int] = {
            "db.system.name": "mongodb",
            "db.namespace": database,
            "db.operation.name": name,
            "server.address": address[0],
            "server.port": address[1],
        }
        if collection is not None:
            attributes["db.collection.name"] = collection
        title = name if collection is None else f"{name} {collection}"
        return CommandSpan(self._tracer.start_span(title, kind=SpanKind.CLIENT, attributes=attributes))


class _Exporter(SpanExporter):
    """Exports to a collector; logs once when it fails, and once when it works again."""

    def __init__(self, endpoint: str) -> None:
        url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH
        self._inner = OTLPSpanExporter(url, timeout=_SEND_SECONDS)
        self._is_sending = True
        self._closing = False

    def close(self) -> None:
        """From now on try at most once: shutdown does not wait for an unreachable collector."""
        self._closing = True
        if not self._is_sending:
            self._inner.shutdown()  # type: ignore[no-untyped-call]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._closing and not self._is_sending:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        is_exported = result is SpanExportResult.SUCCESS
        if is_exported != self._is_sending:
            self._is_sending = is_exported
            _log.info("traces are exported again") if is_exported else _log.warning(
                "traces cannot be exported and are lost"
            )
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]


def _resource() -> Resource:
    """Return the resource attributes; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override them."""
    attributes = {"service.name": "gateway", "service.version": importlib.metadata.version("events-gateway")}
    return Resource.create(attributes).merge(OTELResourceDetector().detect())
