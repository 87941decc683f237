"""Leases: until when one process works at something, and what a wrong clock may not do to them."""

from datetime import datetime, timedelta

# How far two looks at the time may differ that are both right.
CLOCK_TOLERANCE = timedelta(seconds=2)


def is_held(until: datetime, now: datetime, length: timedelta) -> bool:
    """Whether a lease of that length, or any other wait, is under way. One that ends later than one that began now would
    was written by a wrong clock: it is over."""
    return now < until <= latest_end(now, length)


def latest_end(now: datetime, length: timedelta) -> datetime:
    """When a wait of that length ends at the latest."""
    return now + length + CLOCK_TOLERANCE
