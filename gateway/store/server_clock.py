"""The database server's time, which all processes use, whatever their machines' clocks say."""

from datetime import UTC, datetime, timedelta

import structlog

from gateway.core.clock import Clock, system_clock

_LONGEST_ROUND_TRIP = timedelta(seconds=1)  # a slower reply is too inexact
_TOLERANCE = timedelta(seconds=5)  # contact tokens allow as much
_log = structlog.get_logger("gateway.clock")


class ServerClock:
    """The difference between this machine's clock and the database server's."""

    def __init__(self, machine: Clock = system_clock) -> None:
        self._machine = machine
        self.offset = self.correction = timedelta(0)  # `correction` is added to this machine's time

    def machine_now(self) -> datetime:
        return self._machine()

    def measure(self, server_time: datetime, began: datetime) -> datetime:
        """Learn the difference from a reply to a request at machine time `began`. The server's time as UTC."""
        at = server_time.replace(tzinfo=UTC) if server_time.tzinfo is None else server_time
        ended = self._machine()
        if timedelta(0) <= ended - began <= _LONGEST_ROUND_TRIP:
            self._learn(at - ended)
        return at

    def corrected(self, clock: Clock) -> Clock:
        """That clock plus the correction. Differences of a few seconds are ignored."""

        def now() -> datetime:
            return clock() + self.correction

        return now

    def _learn(self, offset: timedelta) -> None:
        was_wrong, self.offset = self.correction != timedelta(0), offset
        self.correction = offset if abs(offset) > _TOLERANCE else timedelta(0)
        if self.correction and not was_wrong:
            _log.warning("this machine's clock is wrong; using the database's time", seconds=self.seconds_ahead)
        elif was_wrong and not self.correction:
            _log.info("this machine's clock is right again")

    @property
    def seconds_ahead(self) -> float:
        """How many seconds this machine's clock is ahead of the database's; below 0 it is behind."""
        return -self.offset.total_seconds()
