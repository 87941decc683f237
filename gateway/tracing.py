"""Spans for OpenTelemetry: one for each operation and one for each command to the database, without any text of either.

This module, and with it OpenTelemetry, is loaded where GATEWAY_TRACING is set, and nowhere else.
"""

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
_LONGEST_ATTRIBUTE = 200  # the names of operations are the callers' to choose
_log = structlog.get_logger("gateway.tracing")


class OperationSpan:
    """The span of one operation, told what it turned out to be and how it ended."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def name_operation(self, kind: str | None, name: str | None) -> None:
        """Say which operation it is."""
        if kind is not None:
            self._span.update_name(kind)
            self._span.set_attribute("graphql.operation.type", kind)
        if name is not None:
            self._span.set_attribute("graphql.operation.name", name)

    def failed(self, code: str, status: int) -> None:
        """Say why it failed; only what is the gateway's fault, and not the caller's, makes it an error."""
        if not self._span.is_recording():  # a subscription's start was well
            return
        self._span.set_attribute("error.type", code)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class CommandSpan:
    """The span of one command to the database."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, failure: str | None) -> None:
        """End it; `failure` is the name of the error that the server or the connection gave."""
        if failure is not None:
            self._span.set_attribute("error.type", failure)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """The spans of one process, sent in batches by a thread of their own."""

    def __init__(self, endpoint: str) -> None:
        # What cannot be sent is told by _Exporter, once; the library tells it for every batch, on several lines.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Exporter(endpoint)
        limits = SpanLimits(max_span_attribute_length=_LONGEST_ATTRIBUTE)
        self._provider = TracerProvider(resource=_resource(), span_limits=limits, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("gateway")
        self._propagator = TraceContextTextMapPropagator()

    async def close(self) -> None:
        """Send what is left, for seconds at most, and end the thread."""
        self._exporter.close()
        await asyncio.to_thread(self._provider.shutdown)

    @contextmanager
    def continued(self, carrier: Mapping[str, str]) -> Iterator[None]:
        """What is traced within belongs to the trace that the carrier's `traceparent` names, or to one of its own."""
        token = attach(self._propagator.extract(carrier, Context()))
        try:
            yield
        finally:
            detach(token)

    @contextmanager
    def operation(self, request_id: str) -> Iterator[OperationSpan]:
        """The span of an operation that is under way; every log line within has its trace's id."""
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
            except BaseException as error:  # nobody waits for the answer any more
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    def command(self, name: str, database: str, collection: str | None, address: tuple[str, int]) -> CommandSpan | None:
        """The span of a command to MongoDB; None where no operation that is recorded asks for it, as for the bus."""
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
    """Sends to a collector; says once that it cannot, and once that it can again."""

    def __init__(self, endpoint: str) -> None:
        url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH
        self._inner = OTLPSpanExporter(url, timeout=_SEND_SECONDS)
        self._well = True
        self._closing = False

    def close(self) -> None:
        """From now on try once at most: what ends waits for no collector that does not answer."""
        self._closing = True
        if not self._well:
            self._inner.shutdown()  # type: ignore[no-untyped-call]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; they are lost where that fails."""
        if self._closing and not self._well:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        well = result is SpanExportResult.SUCCESS
        if well != self._well:
            self._well = well
            _log.info("traces are sent again") if well else _log.warning("traces cannot be sent: they are lost")
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]


def _resource() -> Resource:
    """What the spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more, or otherwise."""
    ours = {"service.name": "gateway", "service.version": importlib.metadata.version("events-gateway")}
    return Resource.create(ours).merge(OTELResourceDetector().detect())
