"""When the gate opens early, and for how long it goes on asking in vain."""

from __future__ import annotations

import pytest

from omni_async.ratelimit.backoff import give_up_after
from omni_async.ratelimit.limiter import RateLimiter
from omni_async.settings import Retry
from tests.support.limiters import RETRY, a_gate, leave, opens_at

# A job that finishes opens early


def test_a_finished_job_opens_at_once() -> None:
    """Where the limit is of jobs at once, a free place need not wait for the clock."""
    gate = a_gate()
    gate.job_started()
    gate.on_rate_limited(leave(gate, 0), 0, retry_after=60.0, jitter=0)
    gate.job_finished(5)
    assert leave(gate, 5).is_probe


def test_a_finished_job_does_not_help_against_a_rate() -> None:
    """Once such an early probe is refused, the server's time counts, whoever else finishes."""
    gate = a_gate()
    for _ in range(3):
        gate.job_started()
    gate.on_rate_limited(leave(gate, 0), 0, retry_after=60.0, jitter=0)
    gate.job_finished(1)
    gate.on_rate_limited(leave(gate, 1), 1, retry_after=60.0, jitter=0)
    gate.job_finished(2)
    assert gate.delay(2) == 59


def test_several_that_finish_before_the_early_probe_are_one_occasion() -> None:
    """That a second job finished before the probe left does not make the probe any less early."""
    gate = a_gate()
    for _ in range(4):
        gate.job_started()
    gate.on_rate_limited(leave(gate, 0), 0, retry_after=60.0, jitter=0)
    gate.job_finished(1.0)
    gate.job_finished(1.1)
    gate.on_rate_limited(leave(gate, 1.2), 1.2, retry_after=60.0, jitter=0)
    gate.job_finished(2.0)
    assert gate.delay(2.0) == pytest.approx(59.2)


@pytest.mark.parametrize("event", ["on_unreachable", "on_ambiguous"])
def test_a_finished_job_mends_no_network(event: str) -> None:
    """It frees a place, and places were not the trouble."""
    gate, now = a_gate(), 0.0
    gate.job_started()
    while gate.delay(now) == 0:
        getattr(gate, event)(gate.acquire(now), now, jitter=0)
    before = gate.delay(now)
    gate.job_finished(now)
    assert gate.delay(now) == before


# Patience


def _outage(gate: RateLimiter, *, until: float, now: float = 0.0, late: float = 0.0) -> float:
    """Fail to reach the server again and again, each time so late after the gate opened; give when patience ended."""
    while now < until:
        gate.on_unreachable(leave(gate, now), now, jitter=0.5)
        if gate.should_give_up(now):
            return now
        now = opens_at(gate, now) + late
    return now


def test_an_outage_is_borne_for_a_budget() -> None:
    """No way to the server for longer than the budget ends the asking, and not before."""
    ended = _outage(a_gate(), until=10_000)
    assert RETRY.timeout < ended <= RETRY.timeout + RETRY.wait_max * 2


@pytest.mark.parametrize(
    ("retry", "pace"),
    [
        pytest.param(Retry(), 60.0, id="one a minute"),
        pytest.param(Retry(timeout=10, wait_max=2), 20.0, id="three a minute, a short budget"),
    ],
)
def test_a_slow_pace_does_not_make_an_outage_endless(retry: Retry, pace: float) -> None:
    """At a slow pace each probe leaves long after the gate has opened, and yet the network is down."""
    assert _outage(a_gate(retry=retry), until=20_000, late=pace) < 20_000


def test_a_pause_in_which_nobody_asked_is_no_outage() -> None:
    """After an idle night, one failure does not end everything."""
    gate = a_gate()
    gate.on_unreachable(leave(gate, 0), 0, jitter=0)
    gate.on_unreachable(leave(gate, 30_000), 30_000, jitter=0)
    assert not gate.should_give_up(30_000)


def test_refusals_are_borne_while_jobs_are_in_flight() -> None:
    """A full account says no for as long as its jobs take."""
    gate, now = a_gate(), 0.0
    gate.job_started()
    while now < 2 * give_up_after(RETRY):
        gate.on_rate_limited(leave(gate, now), now, retry_after=30.0, jitter=0)
        assert not gate.should_give_up(now)
        now = opens_at(gate, now)


def test_refusals_with_nothing_in_flight_are_borne_for_long_but_not_for_ever() -> None:
    """A server that only ever says no is left alone some day."""
    gate, now = a_gate(), 0.0
    while not gate.should_give_up(now):
        assert now < 2 * give_up_after(RETRY)
        gate.on_rate_limited(leave(gate, now), now, retry_after=30.0, jitter=0)
        now = opens_at(gate, now)
    assert now > give_up_after(RETRY)


def test_a_moment_without_network_does_not_end_a_long_wait_for_a_place() -> None:
    """The server was heard half a minute ago: this is no outage of a budget."""
    gate, now = a_gate(), 0.0
    gate.job_started()
    while now < 2 * RETRY.timeout:
        gate.on_rate_limited(leave(gate, now), now, retry_after=30.0, jitter=0)
        now = opens_at(gate, now)
    gate.on_unreachable(leave(gate, now), now, jitter=0)
    assert not gate.should_give_up(now)


def test_troubles_that_take_turns_are_not_borne_for_ever() -> None:
    """A network that is now down and now swallows answers lets nothing through; with nothing in flight it ends."""
    gate, now, turn = a_gate(), 0.0, 0
    while not gate.should_give_up(now):
        assert now < 4 * give_up_after(RETRY)
        permit, turn = leave(gate, now), turn + 1
        if turn % 2:
            gate.on_unreachable(permit, now, jitter=0.5)
        else:
            gate.on_ambiguous(permit, now, jitter=0.5)
        now = max(now + 0.01, opens_at(gate, now))


def test_an_open_gate_has_all_the_patience() -> None:
    """Whoever is let through is not waiting."""
    gate = a_gate()
    assert not gate.should_give_up(1e9)
    gate.on_unreachable(leave(gate, 0), 0, jitter=0)
    gate.on_success(leave(gate, 1), accepted=True)
    assert not gate.should_give_up(1e9)
