"""Leases, with protection against wrong clocks."""

from datetime import datetime, timedelta

# How far two correct clocks may differ.
CLOCK_TOLERANCE = timedelta(seconds=2)


def is_held(until: datetime, now: datetime, length: timedelta) -> bool:
    """Whether a wait of that length is still running. An end beyond `latest_end` comes from a wrong clock: it is over."""
    return now < until <= latest_end(now, length)


def latest_end(now: datetime, length: timedelta) -> datetime:
    """The latest plausible end of a wait that starts now."""
    return now + length + CLOCK_TOLERANCE
