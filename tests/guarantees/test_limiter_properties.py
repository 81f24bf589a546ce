"""The gate under any order of events: never two probes, never more than the window, never shut for ever."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omni_async.ratelimit.adaptive import Learner
from omni_async.ratelimit.limiter import Permit, RateLimiter
from tests.support.limiters import RETRY

WIDTH = 4
DICE = st.floats(0, 1, exclude_max=True)


# Laws


class _Life(RuleBasedStateMachine):
    """Any order of events, against what must hold whatever happens."""

    capacity: int | None = None
    learns = False

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        learner = Learner(RETRY) if self.learns else None
        self.gate = RateLimiter(max_in_flight=self.capacity, max_concurrent=WIDTH, retry=RETRY, learner=learner)
        self.out: list[Permit] = []
        self.in_flight = 0
        self.window = 1
        self.closings = 0

    def _take_back(self, index: int) -> Permit:
        return self.out.pop(index % len(self.out))

    def _is_of_now(self, permit: Permit) -> bool:
        return permit.pause == self.closings

    def _note_closing(self, was_of_now: bool) -> None:
        if was_of_now:
            self.closings, self.window = self.closings + 1, 1

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @precondition(lambda self: self.gate.delay(self.now) == 0)
    @rule()
    def leave(self) -> None:
        """One leaves."""
        is_probe_out = any(permit.is_probe and self._is_of_now(permit) for permit in self.out)
        assert not is_probe_out, "while a probe is out, nobody else leaves"
        permit = self.gate.acquire(self.now)
        assert permit.pause == self.closings
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
        self.gate.on_success(permit, accepted=accepted)
        self.in_flight += accepted
        if self._is_of_now(permit):
            self.window = min(WIDTH, self.window + 1)

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), advice=st.none() | st.floats(-5, 1e9), jitter=DICE)
    def refused(self, index: int, advice: float | None, jitter: float) -> None:
        """The server says 429."""
        permit = self._take_back(index)
        self.gate.on_rate_limited(permit, self.now, retry_after=advice, jitter=jitter)
        self._note_closing(self._is_of_now(permit))

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), jitter=DICE)
    def unreachable(self, index: int, jitter: float) -> None:
        """It could not be sent."""
        permit = self._take_back(index)
        self.gate.on_unreachable(permit, self.now, jitter=jitter)
        self._note_closing(self._is_of_now(permit))

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100), jitter=DICE)
    def unclear(self, index: int, jitter: float) -> None:
        """Nobody knows; the gate may take that for a reason to close."""
        permit = self._take_back(index)
        was_open = not self.gate.is_paused
        self.gate.on_ambiguous(permit, self.now, jitter=jitter)
        has_closed = was_open and self.gate.is_paused
        self._note_closing(self._is_of_now(permit) and (permit.is_probe or has_closed))

    @precondition(lambda self: bool(self.out))
    @rule(index=st.integers(0, 100))
    def withdrawn(self, index: int) -> None:
        """It never left."""
        self.gate.on_not_sent(self._take_back(index))

    @rule()
    def joined(self) -> None:
        """A job is resumed."""
        self.gate.job_started()
        self.in_flight += 1

    @rule()
    def finished(self) -> None:
        """A job ends on the server."""
        self.gate.job_finished(self.now)
        self.in_flight = max(0, self.in_flight - 1)

    @invariant()
    def counts_are_true(self) -> None:
        """Nothing is counted twice or lost."""
        assert self.gate.in_flight == self.in_flight
        assert len(self.out) <= WIDTH

    @invariant()
    def opens_again(self) -> None:
        """The gate opens after a bounded time, or something is out, or in flight, whose end will open it."""
        wait = self.gate.delay(self.now)
        if wait is None:
            assert self.out or (self.capacity is not None and self.in_flight >= self.capacity)
            return
        assert 0 <= wait <= RETRY.timeout * 1.05
        assert self.gate.delay(self.now + wait + 1e-6) == 0

    def teardown(self) -> None:
        """Once everything has come back, the wire is empty: the next one is let through."""
        for permit in self.out:
            self.gate.on_not_sent(permit)
        for _ in range(self.in_flight):
            self.gate.job_finished(self.now)
        assert self.gate.delay(self.now + RETRY.timeout * 1.05 + 1) == 0


class _FullLife(_Life):
    """The same under a ceiling of jobs at once."""

    capacity = 3


class _LearningLife(_Life):
    """The same for a gate that learns, however wrong what it is told."""

    learns = True


TestLife = _Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40)
TestLife.__doc__ = "Whatever happens in whatever order, the laws of the gate hold."
TestFullLife = _FullLife.TestCase
TestFullLife.settings = settings(max_examples=150, stateful_step_count=40)
TestFullLife.__doc__ = "They hold under a ceiling of jobs at once, too."
TestLearningLife = _LearningLife.TestCase
TestLearningLife.settings = settings(max_examples=300, stateful_step_count=60)
TestLearningLife.__doc__ = "They hold for a gate that learns from nonsense, too: above all, it always opens again."
