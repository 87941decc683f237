"""Logs and Prometheus metrics. Neither contains query text, variables or secrets."""

import logging
import os
import sys
import threading
import time
from pathlib import Path
from random import getrandbits
from types import TracebackType
from typing import Any

import psutil
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from structlog.processors import ExceptionRenderer
from structlog.stdlib import ProcessorFormatter, add_logger_name
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor

MULTIPROCESS_FOLDER = (
    "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable, set by `gateway serve` for its workers
)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
_MOST_NAMES = 200
_LONGEST_NAME = 100  # repeated in about twenty lines of metrics


def forget_dead_workers() -> None:
    """Remove the live gauges of dead workers; their counters stay."""
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    for path in Path(folder).glob("gauge_live*_*.db") if folder else ():
        process_id = int(path.stem.rpartition("_")[2])
        if not psutil.pid_exists(process_id):
            multiprocess.mark_process_dead(process_id)  # type: ignore[no-untyped-call]


def configure_logs(level: str, *, json: bool) -> None:
    """Log to standard error from this level: JSON lines, or coloured text for people.

    Messages of libraries, warnings and uncaught exceptions use the same format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _json_renderers() if json else _console_renderers()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        processors=[*shared, *renderers],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # writes whole lines: processes share the output
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[add_logger_name, *shared],
            processors=[ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Callers of the driver log its failures; its background tasks would repeat them with a traceback.
    logging.getLogger("pymongo").setLevel(logging.CRITICAL)


def _json_renderers() -> list[Processor]:
    # Locals of frames would expose keys and personal data.
    return [ExceptionRenderer(ExceptionDictTransformer(show_locals=False)), structlog.processors.JSONRenderer()]


def _console_renderers() -> list[Processor]:
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [_escape_controls, console]


def _escape_controls(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape control characters, so that a value cannot look like another log line."""
    return {
        name: repr(value) if isinstance(value, str) and name != "exception" and not value.isprintable() else value
        for name, value in event.items()
    }


def log_uncaught_exceptions() -> None:
    log = structlog.get_logger("gateway.uncaught")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("uncaught exception", exc_info=(kind, error, trace))

    sys.excepthook = uncaught
    threading.excepthook = lambda args: log.critical(
        "uncaught exception in a thread", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
    )
    sys.unraisablehook = lambda args: log.error(
        "unraisable exception", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
    )


def log_name(name: str | None) -> str | None:
    """Cut an operation's name to the length that logs and metrics allow: callers choose it."""
    return None if name is None else name[:_LONGEST_NAME]


def new_request_id() -> str:
    """Return an id for one operation, shown in logs and responses; not secret."""
    return f"{getrandbits(64):016x}"


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._names: set[str] = set()
        self._counters: dict[tuple[str, str], Counter] = {}  # bounded by names times outcomes
        self._timers: dict[str, Histogram] = {}
        registry = self.registry
        self._operations = Counter(
            "gateway_operations", "Operations, by name and outcome.", ["operation", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "gateway_operation_seconds",
            "Duration of operations in seconds.",
            ["operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "gateway_refused_operations",
            "Operations refused before execution, by code.",
            ["code"],
            registry=registry,
        )
        documents = Counter(
            "gateway_documents",
            "Documents to execute, by whether they were in the cache.",
            ["kept"],
            registry=registry,
        )
        self._cached, self._read = documents.labels("yes"), documents.labels("no")
        self._tracked = Counter("gateway_tracked_events", "Tracked events, by outcome.", ["outcome"], registry=registry)
        self.group_size = Histogram(
            "gateway_group_size", "Number of events in one transaction.", buckets=_SIZES, registry=registry
        )
        self.subscribers = Gauge(
            "gateway_subscribers", "Active subscriptions.", registry=registry, multiprocess_mode="livesum"
        )
        self.bus_lag = Gauge(
            "gateway_bus_lag_seconds",
            "Delay of the newest change, in seconds.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.roll_up_lag = Gauge(
            "gateway_roll_up_lag_seconds",
            "Age of the oldest change that is not yet in the totals of definitions, in seconds.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.segment_lag = Gauge(
            "gateway_segment_lag_seconds",
            "Age of the oldest change that segments do not yet reflect, in seconds.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.projection_stalled = Gauge(
            "gateway_projection_stalled_seconds",
            "Seconds for which a projection has not advanced although changes wait; 0 if it advances or nothing waits.",
            ["projection"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.clock_ahead = Gauge(
            "gateway_clock_ahead_seconds",
            "Seconds by which this machine's clock is ahead of the database's; negative if it is behind.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.queue_drops = Counter(
            "gateway_slow_subscribers", "Subscribers closed because they read too slowly.", registry=registry
        )
        self.rate_limited = Counter(
            "gateway_rate_limited", "Requests and operations refused by a rate limit.", ["limit"], registry=registry
        )

    def operation(self, name: str | None) -> "Operation":
        """Count and time one operation; the caller sets its `outcome`."""
        return Operation(self, self._label(name))

    def ended(self, label: str, outcome: str, seconds: float) -> None:
        self._counter(label, outcome).inc()
        self._timer(label).observe(seconds)

    def subscribed(self, name: str | None) -> None:
        """Count a subscription that starts; its duration is not measured."""
        self._operations.labels(self._label(name), "subscribed").inc()

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def prepared(self, *, cached: bool) -> None:
        """Count a document that is executed: cached, or parsed and validated."""
        (self._cached if cached else self._read).inc()

    def tracked(self, added: int, duplicates: int, rejected: int) -> None:
        for outcome, count in (("added", added), ("duplicate", duplicates), ("rejected", rejected)):
            if count:
                self._tracked.labels(outcome).inc(count)

    def text(self) -> bytes:
        """Return the metrics in Prometheus format, merged over all worker processes."""
        if MULTIPROCESS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        multiprocess.MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)

    def _counter(self, label: str, outcome: str) -> Counter:
        counter = self._counters.get((label, outcome))
        if counter is None:
            counter = self._counters[label, outcome] = self._operations.labels(label, outcome)
        return counter

    def _timer(self, label: str) -> Histogram:
        timer = self._timers.get(label)
        if timer is None:
            timer = self._timers[label] = self._seconds.labels(label)
        return timer

    def _label(self, name: str | None) -> str:
        """Return the operation's name, or `other` if there are too many names: callers choose them."""
        if name is None:
            return "anonymous"
        if len(name) > _LONGEST_NAME:
            return "other"
        if name not in self._names:
            if len(self._names) >= _MOST_NAMES:
                return "other"
            self._names.add(name)
        return name


class Operation(dict[str, str]):
    """An operation that is being timed; `outcome` is counted when the context exits."""

    __slots__ = ("_began", "_label", "_metrics")

    def __init__(self, metrics: Metrics, label: str) -> None:
        super().__init__(outcome="cancelled")
        self._metrics = metrics
        self._label = label
        self._began = time.perf_counter()

    def __enter__(self) -> "Operation":
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.ended(self._label, self["outcome"], time.perf_counter() - self._began)
