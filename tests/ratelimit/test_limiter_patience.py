"""When the gate opens early, and for how long it goes on asking in vain."""

from __future__ import annotations

import pytest

from omni_async.ratelimit.backoff import patience
from omni_async.ratelimit.limiter import Gate
from omni_async.settings import Retry
from tests.support.limiters import RETRY, a_gate, leave, opens_at

# A job that finishes opens early


def test_a_finished_job_opens_at_once() -> None:
    """Where the limit is of jobs at once, a free place need not wait for the clock."""
    gate = a_gate()
    gate.joined()
    gate.refused(leave(gate, 0), 0, advice=60.0, dice=0)
    gate.finished(5)
    assert leave(gate, 5).is_probe


def test_a_finished_job_does_not_help_against_a_rate() -> None:
    """Once such an early probe is refused, the server's time counts, whoever else finishes."""
    gate = a_gate()
    for _ in range(3):
        gate.joined()
    gate.refused(leave(gate, 0), 0, advice=60.0, dice=0)
    gate.finished(1)
    gate.refused(leave(gate, 1), 1, advice=60.0, dice=0)
    gate.finished(2)
    assert gate.opens_in(2) == 59


def test_several_that_finish_before_the_early_probe_are_one_occasion() -> None:
    """That a second job finished before the probe left does not make the probe any less early."""
    gate = a_gate()
    for _ in range(4):
        gate.joined()
    gate.refused(leave(gate, 0), 0, advice=60.0, dice=0)
    gate.finished(1.0)
    gate.finished(1.1)
    gate.refused(leave(gate, 1.2), 1.2, advice=60.0, dice=0)
    gate.finished(2.0)
    assert gate.opens_in(2.0) == pytest.approx(59.2)


@pytest.mark.parametrize("way", ["unreachable", "unclear"])
def test_a_finished_job_mends_no_network(way: str) -> None:
    """It frees a place, and places were not the trouble."""
    gate, now = a_gate(), 0.0
    gate.joined()
    while gate.opens_in(now) == 0:
        getattr(gate, way)(gate.leave(now), now, dice=0)
    before = gate.opens_in(now)
    gate.finished(now)
    assert gate.opens_in(now) == before


# Patience


def _outage(gate: Gate, *, until: float, now: float = 0.0, late: float = 0.0) -> float:
    """Fail to reach the server again and again, each time so late after the gate opened; give when patience ended."""
    while now < until:
        gate.unreachable(leave(gate, now), now, dice=0.5)
        if gate.has_lost_patience(now):
            return now
        now = opens_at(gate, now) + late
    return now


def test_an_outage_is_borne_for_a_budget() -> None:
    """No way to the server for longer than the budget ends the asking, and not before."""
    ended = _outage(a_gate(), until=10_000)
    assert RETRY.budget < ended <= RETRY.budget + RETRY.maximum * 2


@pytest.mark.parametrize(
    ("retry", "pace"),
    [
        pytest.param(Retry(), 60.0, id="one a minute"),
        pytest.param(Retry(budget=10, maximum=2), 20.0, id="three a minute, a short budget"),
    ],
)
def test_a_slow_pace_does_not_make_an_outage_endless(retry: Retry, pace: float) -> None:
    """At a slow pace each probe leaves long after the gate has opened, and yet the network is down."""
    assert _outage(a_gate(retry=retry), until=20_000, late=pace) < 20_000


def test_a_pause_in_which_nobody_asked_is_no_outage() -> None:
    """After an idle night, one failure does not end everything."""
    gate = a_gate()
    gate.unreachable(leave(gate, 0), 0, dice=0)
    gate.unreachable(leave(gate, 30_000), 30_000, dice=0)
    assert not gate.has_lost_patience(30_000)


def test_refusals_are_borne_while_jobs_are_in_flight() -> None:
    """A full account says no for as long as its jobs take."""
    gate, now = a_gate(), 0.0
    gate.joined()
    while now < 2 * patience(RETRY):
        gate.refused(leave(gate, now), now, advice=30.0, dice=0)
        assert not gate.has_lost_patience(now)
        now = opens_at(gate, now)


def test_refusals_with_nothing_in_flight_are_borne_for_long_but_not_for_ever() -> None:
    """A server that only ever says no is left alone some day."""
    gate, now = a_gate(), 0.0
    while not gate.has_lost_patience(now):
        assert now < 2 * patience(RETRY)
        gate.refused(leave(gate, now), now, advice=30.0, dice=0)
        now = opens_at(gate, now)
    assert now > patience(RETRY)


def test_a_moment_without_network_does_not_end_a_long_wait_for_a_place() -> None:
    """The server was heard half a minute ago: this is no outage of a budget."""
    gate, now = a_gate(), 0.0
    gate.joined()
    while now < 2 * RETRY.budget:
        gate.refused(leave(gate, now), now, advice=30.0, dice=0)
        now = opens_at(gate, now)
    gate.unreachable(leave(gate, now), now, dice=0)
    assert not gate.has_lost_patience(now)


def test_troubles_that_take_turns_are_not_borne_for_ever() -> None:
    """A network that is now down and now swallows answers lets nothing through; with nothing in flight it ends."""
    gate, now, turn = a_gate(), 0.0, 0
    while not gate.has_lost_patience(now):
        assert now < 4 * patience(RETRY)
        permit, turn = leave(gate, now), turn + 1
        if turn % 2:
            gate.unreachable(permit, now, dice=0.5)
        else:
            gate.unclear(permit, now, dice=0.5)
        now = max(now + 0.01, opens_at(gate, now))


def test_an_open_gate_has_all_the_patience() -> None:
    """Whoever is let through is not waiting."""
    gate = a_gate()
    assert not gate.has_lost_patience(1e9)
    gate.unreachable(leave(gate, 0), 0, dice=0)
    gate.passed(leave(gate, 1), accepted=True)
    assert not gate.has_lost_patience(1e9)
