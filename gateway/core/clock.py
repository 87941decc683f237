"""Where the present comes from, so that a test can say what time it is."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, in UTC, to the millisecond that MongoDB keeps."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(at: datetime) -> datetime:
    """The same moment without what lies below a millisecond."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
