"""What waits for a moment that a wrong clock wrote waits no longer than it could by a right one."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from gateway.core.leases import CLOCK_TOLERANCE, is_held
from gateway.destinations.klaviyo.connection import LONGEST_BACK_OFF, KlaviyoConnection, SyncState
from gateway.outbox.deliveries import LEASE, is_leased
from gateway.services.rate_limit_storages import LocalStorage
from gateway.settings import KlaviyoMode
from gateway.store.server_clock import ServerClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIX, HOURS = timedelta(seconds=6), timedelta(hours=3)


@pytest.mark.parametrize(
    ("until", "held"),
    [
        (NOW - HOURS, False),
        (NOW, False),
        (NOW + timedelta(milliseconds=1), True),
        (NOW + SIX, True),
        (NOW + SIX + CLOCK_TOLERANCE, True),
        (NOW + SIX + CLOCK_TOLERANCE + timedelta(milliseconds=1), False),
        (NOW + HOURS, False),
    ],
)
def test_a_lease_reaches_no_further_than_now_and_its_length(until: datetime, held: bool) -> None:
    assert is_held(until, NOW, SIX) is held


def test_a_lane_of_deliveries_is_leased_for_half_a_minute_at_most() -> None:
    assert is_leased({"lease": "a", "due_at": NOW + LEASE}, NOW)
    assert not is_leased({"lease": "a", "due_at": NOW + HOURS}, NOW)
    assert not is_leased({"due_at": NOW + LEASE}, NOW)


def test_a_sync_backs_off_for_a_minute_at_most() -> None:
    def state(until: datetime) -> SyncState:
        return KlaviyoConnection("ws_1", KlaviyoMode.LIVE, "https://a.klaviyo.com", backing_off_until=until).state(NOW)

    assert state(NOW + LONGEST_BACK_OFF) is SyncState.BACKING_OFF
    assert (state(NOW + HOURS), state(NOW)) == (SyncState.RUNNING, SyncState.RUNNING)


async def test_a_window_of_this_process_does_not_outlive_a_clock_that_is_put_right() -> None:
    now = NOW + HOURS
    storage = LocalStorage(lambda: now)
    assert [await storage.incr("k", 60) for _ in range(3)] == [1, 2, 3]
    now = NOW
    assert (await storage.get("k"), await storage.incr("k", 60), await storage.get("k")) == (0, 1, 1)
    assert await storage.get_expiry("k") == (NOW + timedelta(minutes=1)).timestamp()


@pytest.mark.parametrize(("wrong_by", "corrected"), [(3, True), (-3, True), (0.001, False), (-0.001, False)])
def test_a_machine_whose_clock_is_wrong_goes_by_the_databases(wrong_by: float, corrected: bool) -> None:
    wrong = timedelta(hours=wrong_by)
    machine = ServerClock(lambda: NOW + wrong)
    clock = machine.corrected(lambda: NOW + wrong)
    with capture_logs() as logs:
        for _ in range(2):
            assert machine.measure(NOW.replace(tzinfo=None), machine.machine_now()) == NOW
    assert clock() == (NOW if corrected else NOW + wrong)
    assert machine.seconds_ahead == wrong.total_seconds()
    assert [log["log_level"] for log in logs] == (["warning"] if corrected else [])


def test_an_answer_that_took_long_says_nothing_of_the_clock() -> None:
    times = iter([NOW, NOW + timedelta(seconds=20)])
    machine = ServerClock(lambda: next(times))
    assert machine.measure(NOW, machine.machine_now()) == NOW
    assert machine.correction == timedelta(0)
