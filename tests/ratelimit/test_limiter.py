"""The gate: one probe at a time, no burst after a pause, and never shut for ever."""

from __future__ import annotations

import pytest

from tests.support.limiters import RETRY, a_gate, fill, leave, opens_at

# The window


def test_the_first_request_goes_alone() -> None:
    """Not even the key has been proved: one request, not sixteen."""
    gate = a_gate()
    leave(gate, 0)
    assert gate.delay(0) is None


def test_traffic_ramps_up_and_stops_at_the_width() -> None:
    """Each request let through makes room for one more on the wire, up to the width."""
    gate, widths = a_gate(width=5), []
    for _ in range(6):
        permits = fill(gate, 0)
        widths.append(len(permits))
        gate.on_success(permits[0], accepted=False)
        for permit in permits[1:]:
            gate.on_not_sent(permit)
    assert widths == [1, 2, 3, 4, 5, 5]


def test_traffic_ramps_up_again_after_a_closing() -> None:
    """What comes out of a pause does not burst."""
    gate = a_gate()
    for _ in range(10):
        gate.on_success(leave(gate, 0), accepted=False)
    permits = fill(gate, 0)
    assert len(permits) == 11
    for permit in permits:
        gate.on_rate_limited(permit, 0, retry_after=1.0, jitter=0)
    gate.on_success(leave(gate, 1.0), accepted=False)
    assert len(fill(gate, 1.0)) == 2


@pytest.mark.parametrize("capacity", [1, 3])
def test_capacity_counts_what_is_on_the_wire_too(capacity: int) -> None:
    """Never more unfinished jobs than the ceiling, even while answers are out; a finished job frees a place."""
    gate = a_gate(capacity=capacity)
    for _ in range(capacity):
        gate.on_success(leave(gate, 0), accepted=True)
    assert (gate.in_flight, gate.delay(0)) == (capacity, None)
    gate.job_finished(0)
    leave(gate, 0)
    assert gate.delay(0) is None


def test_jobs_that_joined_fill_places_too() -> None:
    """Resumed and attached jobs count, and may well be more than the ceiling."""
    gate = a_gate(capacity=2)
    for _ in range(3):
        gate.job_started()
    assert gate.delay(0) is None
    gate.job_finished(0)
    assert gate.delay(0) is None
    gate.job_finished(0)
    assert gate.delay(0) == 0


def test_a_job_in_doubt_holds_a_place_but_does_not_stand_in_its_own_way() -> None:
    """It may be running on the server; only by being sent again will one know."""
    gate = a_gate(capacity=1)
    assert gate.delay(0, reserved=1) is None
    assert gate.delay(0) == 0


def test_more_ends_than_beginnings_do_no_harm() -> None:
    """The number in flight never falls below zero."""
    gate = a_gate(capacity=1)
    gate.job_finished(0)
    assert gate.in_flight == 0
    gate.on_success(leave(gate, 0), accepted=True)
    assert gate.delay(0) is None


# Closing and opening


def test_a_refusal_closes_for_everybody_and_one_probe_opens() -> None:
    """After the pause exactly one leaves; the others wait for what becomes of it."""
    gate = a_gate()
    gate.on_rate_limited(leave(gate, 0), 0, retry_after=10.0, jitter=0)
    assert gate.delay(0) == 10
    assert gate.delay(9.5) == pytest.approx(0.5)
    probe = leave(gate, 10)
    assert probe.is_probe
    assert gate.delay(10_000) is None
    gate.on_success(probe, accepted=True)
    assert gate.delay(10_000) == 0


def test_refusals_of_what_was_on_its_way_are_the_same_closing() -> None:
    """Sixteen 429s at once double the pause once, not sixteen times."""
    gate = a_gate()
    for _ in range(15):
        gate.on_success(leave(gate, 0), accepted=False)
    for permit in fill(gate, 0):
        gate.on_rate_limited(permit, 0, retry_after=None, jitter=0)
    assert gate.delay(0) == RETRY.wait_initial / 2


def test_advice_that_comes_late_is_still_heard() -> None:
    """Where a later 429 of the same closing names a time, nobody probes before it."""
    gate = a_gate()
    gate.on_success(leave(gate, 0), accepted=False)
    first, second = fill(gate, 0)
    gate.on_rate_limited(first, 0, retry_after=None, jitter=0)
    gate.on_rate_limited(second, 0.1, retry_after=20.0, jitter=0)
    assert opens_at(gate, 0.1) >= 20


def test_refused_probes_are_farther_and_farther_apart() -> None:
    """Without advice the pause doubles up to the maximum."""
    gate, now, pauses = a_gate(), 0.0, []
    for _ in range(12):
        gate.on_rate_limited(leave(gate, now), now, retry_after=None, jitter=0.999)
        pauses.append(opens_at(gate, now) - now)
        now = opens_at(gate, now)
    assert pauses == sorted(pauses)
    assert pauses[0] <= RETRY.wait_initial
    assert pauses[-1] == pytest.approx(RETRY.wait_max, rel=0.01)


def test_a_success_makes_the_next_pause_short_again() -> None:
    """The row of refusals ends with the first request that is let through."""
    gate, now = a_gate(), 0.0
    for _ in range(8):
        gate.on_rate_limited(leave(gate, now), now, retry_after=None, jitter=0)
        now = opens_at(gate, now)
    gate.on_success(leave(gate, now), accepted=True)
    gate.on_rate_limited(leave(gate, now), now, retry_after=None, jitter=0)
    assert gate.delay(now) == RETRY.wait_initial / 2


def test_late_news_from_before_the_closing_opens_nothing() -> None:
    """A success of a request that left before the 429 says nothing about now, but its job counts."""
    gate = a_gate()
    gate.on_success(leave(gate, 0), accepted=True)
    first, second = fill(gate, 0)
    gate.on_rate_limited(first, 0, retry_after=10.0, jitter=0)
    gate.on_success(second, accepted=True)
    assert gate.delay(0) == 10
    assert gate.in_flight == 2


def test_a_withdrawn_probe_leaves_its_place_to_the_next() -> None:
    """A probe that was never sent has shown nothing; the next one goes at once."""
    gate = a_gate()
    gate.on_rate_limited(leave(gate, 0), 0, retry_after=10.0, jitter=0)
    gate.on_not_sent(leave(gate, 10))
    assert leave(gate, 10).is_probe
    assert gate.delay(10) is None


def test_one_unclear_outcome_closes_nothing() -> None:
    """It is the request's own bad luck."""
    gate = a_gate()
    gate.on_ambiguous(leave(gate, 0), 0, jitter=0)
    assert gate.delay(0) == 0


def test_unclear_outcomes_count_only_in_a_row() -> None:
    """One clear answer in between, and the server is not in trouble."""
    gate = a_gate()
    for _ in range(20):
        gate.on_ambiguous(leave(gate, 0), 0, jitter=0)
        gate.on_ambiguous(leave(gate, 0), 0, jitter=0)
        gate.on_success(leave(gate, 0), accepted=False)
    assert gate.delay(0) == 0


def test_many_unclear_outcomes_close_the_gate() -> None:
    """A server in trouble is asked by one, not by all; each of them might be paid."""
    gate, now, count = a_gate(), 0.0, 0
    while gate.delay(now) == 0:
        gate.on_ambiguous(gate.acquire(now), now, jitter=0)
        count += 1
        assert count < 20
    now = opens_at(gate, now)
    probe = leave(gate, now)
    assert probe.is_probe
    gate.on_ambiguous(probe, now, jitter=0)
    assert opens_at(gate, now) > now


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_what_cannot_be_sent_closes_the_gate(jitter: float) -> None:
    """Without a way to the server nobody else needs to try meanwhile."""
    gate = a_gate()
    gate.on_unreachable(leave(gate, 0), 0, jitter=jitter)
    assert opens_at(gate, 0) > 0
    assert leave(gate, opens_at(gate, 0)).is_probe
