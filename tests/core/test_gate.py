"""The gate: one probe at a time, no burst after a pause, and never shut for ever."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omni_async._core.gate import Gate, Permit
from omni_async._core.retry import patience
from omni_async._core.settings import Retry

RETRY = Retry()
WIDTH = 4
DICE = st.floats(0, 1, exclude_max=True)


def _gate(*, capacity: int | None = None, width: int = 16, retry: Retry = RETRY) -> Gate:
    return Gate(capacity=capacity, width=width, retry=retry)


def _leave(gate: Gate, now: float) -> Permit:
    assert gate.opens_in(now) == 0
    return gate.leave(now)


def _next(gate: Gate, now: float) -> float:
    """Give the time at which the gate opens by itself."""
    wait = gate.opens_in(now)
    assert wait is not None
    return now + wait


def _fill(gate: Gate, now: float) -> list[Permit]:
    """Let through whatever may leave now."""
    permits = []
    while gate.opens_in(now) == 0:
        permits.append(gate.leave(now))
    return permits


# The window


def test_the_first_request_goes_alone() -> None:
    """Not even the key has been proved: one request, not sixteen."""
    gate = _gate()
    _leave(gate, 0)
    assert gate.opens_in(0) is None


def test_traffic_ramps_up_and_stops_at_the_width() -> None:
    """Each request let through makes room for one more on the wire, up to the width."""
    gate, widths = _gate(width=5), []
    for _ in range(6):
        permits = _fill(gate, 0)
        widths.append(len(permits))
        gate.passed(permits[0], accepted=False)
        for permit in permits[1:]:
            gate.withdrawn(permit)
    assert widths == [1, 2, 3, 4, 5, 5]


def test_traffic_ramps_up_again_after_a_closing() -> None:
    """What comes out of a pause does not burst."""
    gate = _gate()
    for _ in range(10):
        gate.passed(_leave(gate, 0), accepted=False)
    assert len(permits := _fill(gate, 0)) == 11
    for permit in permits:
        gate.refused(permit, 0, advice=1.0, dice=0)
    gate.passed(_leave(gate, 1.0), accepted=False)
    assert len(_fill(gate, 1.0)) == 2


@pytest.mark.parametrize("capacity", [1, 3])
def test_capacity_counts_what_is_on_the_wire_too(capacity: int) -> None:
    """Never more unfinished jobs than the ceiling, even while answers are out; a finished job frees a place."""
    gate = _gate(capacity=capacity)
    for _ in range(capacity):
        gate.passed(_leave(gate, 0), accepted=True)
    assert (gate.in_flight, gate.opens_in(0)) == (capacity, None)
    gate.finished(0)
    _leave(gate, 0)
    assert gate.opens_in(0) is None


def test_jobs_that_joined_fill_places_too() -> None:
    """Resumed and attached jobs count, and may well be more than the ceiling."""
    gate = _gate(capacity=2)
    for _ in range(3):
        gate.joined()
    assert gate.opens_in(0) is None
    gate.finished(0)
    assert gate.opens_in(0) is None
    gate.finished(0)
    assert gate.opens_in(0) == 0


def test_a_job_in_doubt_holds_a_place_but_does_not_stand_in_its_own_way() -> None:
    """It may be running on the server; only by being sent again will one know."""
    gate = _gate(capacity=1)
    gate.in_doubt = 1
    assert gate.opens_in(0) is None
    assert gate.opens_in(0, is_in_doubt=True) == 0


def test_more_ends_than_beginnings_do_no_harm() -> None:
    """The number in flight never falls below zero."""
    gate = _gate(capacity=1)
    gate.finished(0)
    assert gate.in_flight == 0
    gate.passed(_leave(gate, 0), accepted=True)
    assert gate.opens_in(0) is None


# Closing and opening


def test_a_refusal_closes_for_everybody_and_one_probe_opens() -> None:
    """After the pause exactly one leaves; the others wait for what becomes of it."""
    gate = _gate()
    gate.refused(_leave(gate, 0), 0, advice=10.0, dice=0)
    assert gate.opens_in(0) == 10
    assert gate.opens_in(9.5) == pytest.approx(0.5)
    probe = _leave(gate, 10)
    assert probe.is_probe
    assert gate.opens_in(10_000) is None
    gate.passed(probe, accepted=True)
    assert gate.opens_in(10_000) == 0


def test_refusals_of_what_was_on_its_way_are_the_same_closing() -> None:
    """Sixteen 429s at once double the pause once, not sixteen times."""
    gate = _gate()
    for _ in range(15):
        gate.passed(_leave(gate, 0), accepted=False)
    for permit in _fill(gate, 0):
        gate.refused(permit, 0, advice=None, dice=0)
    assert gate.opens_in(0) == RETRY.initial / 2


def test_advice_that_comes_late_is_still_heard() -> None:
    """Where a later 429 of the same closing names a time, nobody probes before it."""
    gate = _gate()
    gate.passed(_leave(gate, 0), accepted=False)
    first, second = _fill(gate, 0)
    gate.refused(first, 0, advice=None, dice=0)
    gate.refused(second, 0.1, advice=20.0, dice=0)
    assert _next(gate, 0.1) >= 20


def test_refused_probes_are_farther_and_farther_apart() -> None:
    """Without advice the pause doubles up to the maximum."""
    gate, now, pauses = _gate(), 0.0, []
    for _ in range(12):
        gate.refused(_leave(gate, now), now, advice=None, dice=0.999)
        pauses.append(_next(gate, now) - now)
        now = _next(gate, now)
    assert pauses == sorted(pauses)
    assert pauses[0] <= RETRY.initial
    assert pauses[-1] == pytest.approx(RETRY.maximum, rel=0.01)


def test_a_success_makes_the_next_pause_short_again() -> None:
    """The row of refusals ends with the first request that is let through."""
    gate, now = _gate(), 0.0
    for _ in range(8):
        gate.refused(_leave(gate, now), now, advice=None, dice=0)
        now = _next(gate, now)
    gate.passed(_leave(gate, now), accepted=True)
    gate.refused(_leave(gate, now), now, advice=None, dice=0)
    assert gate.opens_in(now) == RETRY.initial / 2


def test_late_news_from_before_the_closing_opens_nothing() -> None:
    """A success of a request that left before the 429 says nothing about now, but its job counts."""
    gate = _gate()
    gate.passed(_leave(gate, 0), accepted=True)
    first, second = _fill(gate, 0)
    gate.refused(first, 0, advice=10.0, dice=0)
    gate.passed(second, accepted=True)
    assert gate.opens_in(0) == 10
    assert gate.in_flight == 2


def test_a_withdrawn_probe_leaves_its_place_to_the_next() -> None:
    """A probe that was never sent has shown nothing; the next one goes at once."""
    gate = _gate()
    gate.refused(_leave(gate, 0), 0, advice=10.0, dice=0)
    gate.withdrawn(_leave(gate, 10))
    assert _leave(gate, 10).is_probe
    assert gate.opens_in(10) is None


def test_one_unclear_outcome_closes_nothing() -> None:
    """It is the request's own bad luck."""
    gate = _gate()
    gate.unclear(_leave(gate, 0), 0, dice=0)
    assert gate.opens_in(0) == 0


def test_many_unclear_outcomes_close_the_gate() -> None:
    """A server in trouble is asked by one, not by all; each of them might be paid."""
    gate, now, count = _gate(), 0.0, 0
    while gate.opens_in(now) == 0:
        gate.unclear(gate.leave(now), now, dice=0)
        count += 1
        assert count < 20
    now = _next(gate, now)
    probe = _leave(gate, now)
    assert probe.is_probe
    gate.unclear(probe, now, dice=0)
    assert _next(gate, now) > now


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
def test_what_cannot_be_sent_closes_the_gate(dice: float) -> None:
    """Without a way to the server nobody else needs to try meanwhile."""
    gate = _gate()
    gate.unreachable(_leave(gate, 0), 0, dice=dice)
    assert _next(gate, 0) > 0
    assert _leave(gate, _next(gate, 0)).is_probe


# A job that finishes opens early


def test_a_finished_job_opens_at_once() -> None:
    """Where the limit is of jobs at once, a free place need not wait for the clock."""
    gate = _gate()
    gate.joined()
    gate.refused(_leave(gate, 0), 0, advice=60.0, dice=0)
    gate.finished(5)
    assert _leave(gate, 5).is_probe


def test_a_finished_job_does_not_help_against_a_rate() -> None:
    """Once such an early probe is refused, the server's time counts, whoever else finishes."""
    gate = _gate()
    for _ in range(3):
        gate.joined()
    gate.refused(_leave(gate, 0), 0, advice=60.0, dice=0)
    gate.finished(1)
    gate.refused(_leave(gate, 1), 1, advice=60.0, dice=0)
    gate.finished(2)
    assert gate.opens_in(2) == 59


def test_several_that_finish_before_the_early_probe_are_one_occasion() -> None:
    """That a second job finished before the probe left does not make the probe any less early."""
    gate = _gate()
    for _ in range(4):
        gate.joined()
    gate.refused(_leave(gate, 0), 0, advice=60.0, dice=0)
    gate.finished(1.0)
    gate.finished(1.1)
    gate.refused(_leave(gate, 1.2), 1.2, advice=60.0, dice=0)
    gate.finished(2.0)
    assert gate.opens_in(2.0) == pytest.approx(59.2)


@pytest.mark.parametrize("way", ["unreachable", "unclear"])
def test_a_finished_job_mends_no_network(way: str) -> None:
    """It frees a place, and places were not the trouble."""
    gate, now = _gate(), 0.0
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
        gate.unreachable(_leave(gate, now), now, dice=0.5)
        if gate.has_lost_patience(now):
            return now
        now = _next(gate, now) + late
    return now


def test_an_outage_is_borne_for_a_budget() -> None:
    """No way to the server for longer than the budget ends the asking, and not before."""
    ended = _outage(_gate(), until=10_000)
    assert RETRY.budget < ended <= RETRY.budget + RETRY.maximum * 2


def test_a_slow_pace_does_not_make_an_outage_endless() -> None:
    """At one submit a minute each probe leaves long after the gate has opened, and yet the network is down."""
    assert _outage(_gate(), until=20_000, late=60) < 20_000


def test_a_pause_in_which_nobody_asked_is_no_outage() -> None:
    """After an idle night, one failure does not end everything."""
    gate = _gate()
    gate.unreachable(_leave(gate, 0), 0, dice=0)
    gate.unreachable(_leave(gate, 30_000), 30_000, dice=0)
    assert not gate.has_lost_patience(30_000)


def test_refusals_are_borne_while_jobs_are_in_flight() -> None:
    """A full account says no for as long as its jobs take."""
    gate, now = _gate(), 0.0
    gate.joined()
    while now < 2 * patience(RETRY):
        gate.refused(_leave(gate, now), now, advice=30.0, dice=0)
        assert not gate.has_lost_patience(now)
        now = _next(gate, now)


def test_refusals_with_nothing_in_flight_are_borne_for_long_but_not_for_ever() -> None:
    """A server that only ever says no is left alone some day."""
    gate, now = _gate(), 0.0
    while not gate.has_lost_patience(now):
        assert now < 2 * patience(RETRY)
        gate.refused(_leave(gate, now), now, advice=30.0, dice=0)
        now = _next(gate, now)
    assert now > patience(RETRY)


def test_a_moment_without_network_does_not_end_a_long_wait_for_a_place() -> None:
    """The server was heard half a minute ago: this is no outage of a budget."""
    gate, now = _gate(), 0.0
    gate.joined()
    while now < 2 * RETRY.budget:
        gate.refused(_leave(gate, now), now, advice=30.0, dice=0)
        now = _next(gate, now)
    gate.unreachable(_leave(gate, now), now, dice=0)
    assert not gate.has_lost_patience(now)


def test_troubles_that_take_turns_are_not_borne_for_ever() -> None:
    """A network that is now down and now swallows answers lets nothing through; with nothing in flight it ends."""
    gate, now, turn = _gate(), 0.0, 0
    while not gate.has_lost_patience(now):
        assert now < 4 * patience(RETRY)
        permit, turn = _leave(gate, now), turn + 1
        if turn % 2:
            gate.unreachable(permit, now, dice=0.5)
        else:
            gate.unclear(permit, now, dice=0.5)
        now = max(now + 0.01, _next(gate, now))


def test_an_open_gate_has_all_the_patience() -> None:
    """Whoever is let through is not waiting."""
    gate = _gate()
    assert not gate.has_lost_patience(1e9)
    gate.unreachable(_leave(gate, 0), 0, dice=0)
    gate.passed(_leave(gate, 1), accepted=True)
    assert not gate.has_lost_patience(1e9)


# Laws


class _Life(RuleBasedStateMachine):
    """Any order of events, against what must hold whatever happens."""

    capacity: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.gate = Gate(capacity=self.capacity, width=WIDTH, retry=RETRY)
        self.out: list[Permit] = []
        self.in_flight = 0
        self.window = 1
        self.closings = 0

    def _take_back(self, index: int) -> Permit:
        return self.out.pop(index % len(self.out))

    def _is_of_now(self, permit: Permit) -> bool:
        return permit.closing == self.closings

    def _note_closing(self, was_of_now: bool) -> None:
        if was_of_now:
            self.closings, self.window = self.closings + 1, 1

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @precondition(lambda self: self.gate.opens_in(self.now) == 0)
    @rule()
    def leave(self) -> None:
        """One leaves."""
        is_probe_out = any(permit.is_probe and self._is_of_now(permit) for permit in self.out)
        assert not is_probe_out, "while a probe is out, nobody else leaves"
        permit = self.gate.leave(self.now)
        assert permit.closing == self.closings
        of_now = sum(self._is_of_now(other) for other in self.out)
        assert not permit.is_probe or of_now == 0
        self.out.append(permit)
        assert permit.is_probe or len(self.out) <= self.window
        assert self.capacity is None or self.in_flight + len(self.out) <= self.capacity

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), accepted=st.booleans())
    def passed(self, index: int, accepted: bool) -> None:
        """The server answers."""
        permit = self._take_back(index)
        self.gate.passed(permit, accepted=accepted)
        self.in_flight += accepted
        if self._is_of_now(permit):
            self.window = min(WIDTH, self.window + 1)

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), advice=st.none() | st.floats(-5, 1e9), dice=DICE)
    def refused(self, index: int, advice: float | None, dice: float) -> None:
        """The server says 429."""
        permit = self._take_back(index)
        self.gate.refused(permit, self.now, advice=advice, dice=dice)
        self._note_closing(self._is_of_now(permit))

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), dice=DICE)
    def unreachable(self, index: int, dice: float) -> None:
        """It could not be sent."""
        permit = self._take_back(index)
        self.gate.unreachable(permit, self.now, dice=dice)
        self._note_closing(self._is_of_now(permit))

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), dice=DICE)
    def unclear(self, index: int, dice: float) -> None:
        """Nobody knows; the gate may take that for a reason to close."""
        permit = self._take_back(index)
        wait_before = self.gate.opens_in(self.now)
        self.gate.unclear(permit, self.now, dice=dice)
        wait = self.gate.opens_in(self.now)
        is_probe_of_now = permit.is_probe and self._is_of_now(permit)
        if is_probe_of_now or (self._is_of_now(permit) and wait != 0 and wait is not None and not wait_before):
            self._note_closing(was_of_now=True)

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100))
    def withdrawn(self, index: int) -> None:
        """It never left."""
        self.gate.withdrawn(self._take_back(index))

    @rule()
    def joined(self) -> None:
        """A job is resumed."""
        self.gate.joined()
        self.in_flight += 1

    @rule()
    def finished(self) -> None:
        """A job ends on the server."""
        self.gate.finished(self.now)
        self.in_flight = max(0, self.in_flight - 1)

    @invariant()
    def counts_are_true(self) -> None:
        """Nothing is counted twice or lost."""
        assert self.gate.in_flight == self.in_flight
        assert len(self.out) <= WIDTH

    @invariant()
    def opens_again(self) -> None:
        """The gate opens after a bounded time, or something is out, or in flight, whose end will open it."""
        wait = self.gate.opens_in(self.now)
        if wait is None:
            assert self.out or (self.capacity is not None and self.in_flight >= self.capacity)
            return
        assert 0 <= wait <= RETRY.budget * 1.05
        assert self.gate.opens_in(self.now + wait + 1e-6) == 0

    def teardown(self) -> None:
        """Once everything has come back, the wire is empty: the next one is let through."""
        for permit in self.out:
            self.gate.withdrawn(permit)
        for _ in range(self.in_flight):
            self.gate.finished(self.now)
        assert self.gate.opens_in(self.now + RETRY.budget * 1.05 + 1) == 0


class _FullLife(_Life):
    """The same under a ceiling of jobs at once."""

    capacity = 3


TestLife = _Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40)
TestLife.__doc__ = "Whatever happens in whatever order, the laws of the gate hold."
TestFullLife = _FullLife.TestCase
TestFullLife.settings = settings(max_examples=150, stateful_step_count=40)
TestFullLife.__doc__ = "They hold under a ceiling of jobs at once, too."
