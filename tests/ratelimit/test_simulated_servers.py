"""The adaptive limiter against simulated servers: every job is accepted in the end, with few refusals."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.limiters import adaptive_limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.ratelimit.limiter import Permit

LATENCY = 0.2  # round trip in seconds
MAX_CONCURRENT = 16


class Server(Protocol):
    """Accepts or refuses submits."""

    def submit(self, now: float) -> float | None:
        """Return None if the job is accepted, else the seconds of Retry-After (0 for no Retry-After)."""

    def job_finished(self) -> None:
        """Count a job that has finished."""


@dataclass
class Rate:
    """A token bucket."""

    per_second: float
    burst: float
    sends_retry_after: bool = False
    level: float = math.inf
    filled_at: float = 0.0

    def submit(self, now: float) -> float | None:
        """Take a token if there is one."""
        self.level = min(self.burst, self.level + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        if self.level >= 1:
            self.level -= 1
            return None
        return (1 - self.level) / self.per_second if self.sends_retry_after else 0.0

    def job_finished(self) -> None:
        """Do nothing."""


@dataclass
class Window:
    """At most `max_jobs` in any interval of `seconds`."""

    max_jobs: int
    seconds: float
    sends_retry_after: bool = False
    accepted_at: deque[float] = field(default_factory=deque)

    def submit(self, now: float) -> float | None:
        """Count the jobs of the last interval."""
        while self.accepted_at and self.accepted_at[0] <= now - self.seconds:
            self.accepted_at.popleft()
        if len(self.accepted_at) < self.max_jobs:
            self.accepted_at.append(now)
            return None
        return math.ceil(self.accepted_at[0] + self.seconds - now) if self.sends_retry_after else 0.0

    def job_finished(self) -> None:
        """Do nothing."""


@dataclass
class InFlight:
    """At most `max_jobs` unfinished jobs."""

    max_jobs: int
    running: int = 0

    def submit(self, now: float) -> float | None:
        """Occupy a slot if one is free."""
        if self.running >= self.max_jobs:
            return 0.0
        self.running += 1
        return None

    def job_finished(self) -> None:
        """Free a slot."""
        self.running -= 1


@dataclass
class Both:
    """A rate limit and a concurrency limit."""

    rate: Rate
    in_flight: InFlight

    def submit(self, now: float) -> float | None:
        """Check the concurrency limit first: a refusal by it takes no token."""
        if self.in_flight.running >= self.in_flight.max_jobs:
            return 0.0
        refusal = self.rate.submit(now)
        return self.in_flight.submit(now) if refusal is None else refusal

    def job_finished(self) -> None:
        """Free a slot."""
        self.in_flight.job_finished()


class Run:
    """Jobs submitted through one limiter to one server, in virtual time."""

    def __init__(self, server: Server, *, jobs: int, duration: float, max_in_flight: int | None = None) -> None:
        self.limiter = adaptive_limiter(max_in_flight=max_in_flight, max_concurrent=MAX_CONCURRENT)
        self.server = server
        self.now = 0.0
        self.waiting = jobs
        self.unfinished = jobs
        self.duration = duration
        self.refused = 0
        self.probes_outstanding = 0
        self.outstanding = 0
        self.max_outstanding = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.accepted_at: list[float] = []
        self._rng = random.Random(7)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._event_count = 0
        self._wakes_at = math.inf

    def run(self, *, until: float) -> None:
        """Run until every job has finished. Fail if that takes longer than `until`."""
        self._submit_waiting()
        while self.unfinished:
            assert self._events, "jobs still wait, but no event is scheduled"
            self.now, _, action = heapq.heappop(self._events)
            assert self.now < until, f"{self.waiting} jobs still wait after {until} s"
            action()
            self._submit_waiting()

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._event_count += 1
        heapq.heappush(self._events, (when, self._event_count, action))

    def _submit_waiting(self) -> None:
        while self.waiting and (delay := self.limiter.delay(self.now)) is not None:
            if delay > 0:
                if self.now + delay < self._wakes_at or self._wakes_at <= self.now:
                    self._wakes_at = self.now + delay
                    self._at(self._wakes_at, lambda: None)
                return
            self._send(self.limiter.acquire(self.now))

    def _send(self, permit: Permit) -> None:
        self.waiting -= 1
        self.outstanding += 1
        self.probes_outstanding += permit.is_probe
        self.max_outstanding = max(self.max_outstanding, self.outstanding)
        assert self.probes_outstanding <= 1, "two concurrent probes"
        self._at(self.now + LATENCY / 2, lambda: self._arrive(permit))

    def _arrive(self, permit: Permit) -> None:
        refusal = self.server.submit(self.now)
        if refusal is None:
            self.accepted_at.append(self.now)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self._at(self.now + self.duration * self._rng.uniform(0.5, 1.5), self._finish)
        self._at(self.now + LATENCY / 2, lambda: self._answer(permit, refusal))

    def _answer(self, permit: Permit, refusal: float | None) -> None:
        self.outstanding -= 1
        self.probes_outstanding -= permit.is_probe
        if refusal is None:
            self.limiter.on_success(permit, self.now, accepted=True)
        else:
            self.refused += 1
            self.waiting += 1
            self.limiter.on_rate_limited(permit, self.now, retry_after=refusal or None, jitter=self._rng.random())
            assert not self.limiter.should_give_up(self.now), "gave up on a working server"

    def _finish(self) -> None:
        self.server.job_finished()
        self.in_flight -= 1
        self.unfinished -= 1
        self.limiter.job_finished(self.now)


_KINDS: dict[str, Callable[[], Server]] = {
    "no limit": lambda: Rate(1e9, 1e9),
    "5/s, burst of 10": lambda: Rate(5, 10),
    "5/s, with Retry-After": lambda: Rate(5, 10, sends_retry_after=True),
    "1 in two seconds, burst of 5": lambda: Rate(0.5, 5),
    "60 in a minute": lambda: Window(60, 60),
    "60 in a minute, with Retry-After": lambda: Window(60, 60, sends_retry_after=True),
    "1 in flight": lambda: InFlight(1),
    "10 in flight": lambda: InFlight(10),
    "2/s and 10 in flight": lambda: Both(Rate(2, 4), InFlight(10)),
}
_JOBS = {"1 in flight": 20}


def _run(kind: str, *, max_in_flight: int | None = None, duration: float = 30.0) -> Run:
    run = Run(_KINDS[kind](), jobs=_JOBS.get(kind, 300), duration=duration, max_in_flight=max_in_flight)
    run.run(until=100_000)
    return run


@pytest.mark.parametrize("kind", _KINDS)
def test_every_job_is_accepted(kind: str) -> None:
    """Every job is accepted once, with one probe at a time, and nothing is outstanding in the end."""
    run = _run(kind)
    assert len(run.accepted_at) == _JOBS.get(kind, 300)
    assert (run.outstanding, run.in_flight, run.limiter.in_flight) == (0, 0, 0)
    assert run.max_outstanding <= MAX_CONCURRENT
    assert run.limiter.delay(run.now + 1000) == 0


@pytest.mark.parametrize("kind", ["10 in flight", "5/s, burst of 10", "no limit"])
def test_max_in_flight_is_kept_on_every_server(kind: str) -> None:
    """Unfinished jobs never exceed the user's ceiling. A ceiling that equals the account's limit means no refusals."""
    run = _run(kind, max_in_flight=10)
    assert run.max_in_flight <= 10
    assert run.refused == 0 or kind.startswith("5")


def test_an_account_without_limits_is_filled_without_refusals() -> None:
    """Only the ramp costs time."""
    run = _run("no limit")
    assert run.refused == 0
    assert run.accepted_at[-1] < 11


@pytest.mark.parametrize("kind", ["5/s, with Retry-After", "60 in a minute, with Retry-After"])
def test_retry_after_makes_good_use_of_the_account(kind: str) -> None:
    """With Retry-After, 300 jobs take at most 1.35 times the ideal time."""
    run = _run(kind)
    ideal = (300 - 10) / 5 if kind.startswith("5") else (300 - 60) / 60 * 60
    assert run.accepted_at[-1] <= 1.35 * ideal


@pytest.mark.parametrize("kind", ["1 in flight", "10 in flight"])
def test_a_free_slot_is_used_soon(kind: str) -> None:
    """At a concurrency limit, a finished job lets the next one in, so little time is lost."""
    run = _run(kind)
    jobs, slots = (20, 1) if kind.startswith("1 ") else (300, 10)
    assert run.now <= 1.15 * jobs / slots * 30


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "no limit"])
def test_refusals_are_few(kind: str) -> None:
    """At most one refusal for ten accepted jobs; for twenty jobs one after the other, up to 0.8 for each."""
    run = _run(kind)
    assert run.refused <= (0.1 if len(run.accepted_at) > 20 else 0.8) * len(run.accepted_at)
