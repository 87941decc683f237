"""Where a backfill looks for history."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.ids import lowest_id
from gateway.core.time_ranges import EARLIEST
from gateway.destinations.klaviyo.backfill import PREFIXES, Stage, bounds_of

SINCE, UNTIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stage", "since", "low"),
    [
        (Stage.TICKETS, SINCE, SINCE - timedelta(minutes=1)),
        (Stage.TICKETS, EARLIEST, EARLIEST),
        (Stage.CONTACTS, SINCE, EARLIEST),
    ],
)
def test_a_row_whose_id_is_a_little_older_than_itself_is_looked_at(
    stage: Stage, since: datetime, low: datetime
) -> None:
    prefix = PREFIXES[stage]
    assert bounds_of({"since": since, "until": UNTIL}, stage) == (lowest_id(prefix, low), lowest_id(prefix, UNTIL))
