"""The gate against simulated servers of each kind: everything is accepted in the end, with few refusals."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pytest

from omni_async.ratelimit.adaptive import AdaptiveRateLimiter
from omni_async.ratelimit.limiter import Permit
from omni_async.settings import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

LATENCY = 0.2  # seconds there and back
WIDTH = 16


class Server(Protocol):
    """Decides on submits."""

    def ask(self, now: float) -> float | None:
        """Give None if it accepts, else the seconds of its `Retry-After` (0: it names none)."""

    def ended(self) -> None:
        """Take note that a job has ended."""


@dataclass
class Rate:
    """A token bucket."""

    per_second: float
    burst: float
    tells: bool = False
    level: float = math.inf
    at: float = 0.0

    def ask(self, now: float) -> float | None:
        """Take a token if there is one."""
        self.level = min(self.burst, self.level + (now - self.at) * self.per_second)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return None
        return (1 - self.level) / self.per_second if self.tells else 0.0

    def ended(self) -> None:
        """Nothing changes."""


@dataclass
class Window:
    """So many in each window of time."""

    most: int
    seconds: float
    tells: bool = False
    times: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> float | None:
        """Count those of the last window."""
        while self.times and self.times[0] <= now - self.seconds:
            self.times.popleft()
        if len(self.times) < self.most:
            self.times.append(now)
            return None
        return math.ceil(self.times[0] + self.seconds - now) if self.tells else 0.0

    def ended(self) -> None:
        """Nothing changes."""


@dataclass
class Capacity:
    """So many jobs at once."""

    most: int
    running: int = 0
    highest: int = 0

    def ask(self, now: float) -> float | None:
        """Take one in if there is a place."""
        if self.running >= self.most:
            return 0.0
        self.running += 1
        self.highest = max(self.highest, self.running)
        return None

    def ended(self) -> None:
        """A place is free."""
        self.running -= 1


@dataclass
class Both:
    """A rate and a capacity."""

    rate: Rate
    capacity: Capacity

    def ask(self, now: float) -> float | None:
        """Ask both, the capacity first: a refusal there takes no token."""
        if self.capacity.running >= self.capacity.most:
            return 0.0
        refusal = self.rate.ask(now)
        return self.capacity.ask(now) if refusal is None else refusal

    def ended(self) -> None:
        """A place is free."""
        self.capacity.ended()


class Run:
    """Jobs that want through one gate to one server, on virtual time."""

    def __init__(self, server: Server, *, jobs: int, duration: float, capacity: int | None = None) -> None:
        self.gate = AdaptiveRateLimiter(max_in_flight=capacity, max_concurrent=WIDTH, retry=Retry())
        self.server = server
        self.now = 0.0
        self.waiting = jobs
        self.unfinished = jobs
        self.duration = duration
        self.refused = 0
        self.probes_out = 0
        self.on_wire = 0
        self.most_on_wire = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.accepted_at: list[float] = []
        self._jitter = random.Random(7)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._wakes_at = math.inf

    def go(self, *, until: float) -> None:
        """Run until every job has ended, or it takes too long."""
        self._let_out()
        while self.unfinished:
            assert self._events, "nothing more will ever happen, and jobs still wait"
            self.now, _, happen = heapq.heappop(self._events)
            assert self.now < until, f"{self.waiting} still wait after {until} s"
            happen()
            self._let_out()

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))

    def _let_out(self) -> None:
        while self.waiting and (wait := self.gate.delay(self.now)) is not None:
            if wait > 0:
                if self.now + wait < self._wakes_at or self._wakes_at <= self.now:
                    self._wakes_at = self.now + wait
                    self._at(self._wakes_at, lambda: None)
                return
            self._send(self.gate.acquire(self.now))

    def _send(self, permit: Permit) -> None:
        self.waiting -= 1
        self.on_wire += 1
        self.probes_out += permit.is_probe
        self.most_on_wire = max(self.most_on_wire, self.on_wire)
        assert self.probes_out <= 1, "two probes at once"
        self._at(self.now + LATENCY / 2, lambda: self._arrive(permit))

    def _arrive(self, permit: Permit) -> None:
        refusal = self.server.ask(self.now)
        if refusal is None:
            self.accepted_at.append(self.now)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._at(self.now + self.duration * self._jitter.uniform(0.5, 1.5), self._end)
        self._at(self.now + LATENCY / 2, lambda: self._return(permit, refusal))

    def _return(self, permit: Permit, refusal: float | None) -> None:
        self.on_wire -= 1
        self.probes_out -= permit.is_probe
        if refusal is None:
            self.gate.on_success(permit, self.now, accepted=True)
        else:
            self.refused += 1
            self.waiting += 1
            self.gate.on_rate_limited(permit, self.now, retry_after=refusal or None, jitter=self._jitter.random())
            assert not self.gate.should_give_up(self.now), "it gives up on a server that is well"

    def _end(self) -> None:
        self.server.ended()
        self.in_flight -= 1
        self.unfinished -= 1
        self.gate.job_finished(self.now)


_KINDS: dict[str, Callable[[], Server]] = {
    "no limit": lambda: Rate(1e9, 1e9),
    "5 a second, burst of 10": lambda: Rate(5, 10),
    "5 a second, tells": lambda: Rate(5, 10, tells=True),
    "1 every two seconds, burst of 5": lambda: Rate(0.5, 5),
    "60 a minute in windows": lambda: Window(60, 60),
    "60 a minute in windows, tells": lambda: Window(60, 60, tells=True),
    "1 at once": lambda: Capacity(1),
    "10 at once": lambda: Capacity(10),
    "2 a second and 10 at once": lambda: Both(Rate(2, 4), Capacity(10)),
}
_JOBS = {"1 at once": 20}


def _run(kind: str, *, capacity: int | None = None, duration: float = 30.0) -> Run:
    run = Run(_KINDS[kind](), jobs=_JOBS.get(kind, 300), duration=duration, capacity=capacity)
    run.go(until=100_000)
    return run


@pytest.mark.parametrize("kind", _KINDS)
def test_every_job_gets_through(kind: str) -> None:
    """Whatever the limit, all are accepted once, one probe at a time, and the wire is empty in the end."""
    run = _run(kind)
    assert len(run.accepted_at) == _JOBS.get(kind, 300)
    assert (run.on_wire, run.in_flight, run.gate.in_flight) == (0, 0, 0)
    assert run.most_on_wire <= WIDTH
    assert run.gate.delay(run.now + 1000) == 0


@pytest.mark.parametrize("kind", ["10 at once", "5 a second, burst of 10", "no limit"])
def test_a_ceiling_is_kept_on_every_server(kind: str) -> None:
    """Never more unfinished jobs than the user allows; under a capacity that is known, not one refusal."""
    run = _run(kind, capacity=10)
    assert run.most_in_flight <= 10
    assert run.refused == 0 or kind.startswith("5")


def test_no_limit_means_no_refusal_and_no_waiting() -> None:
    """Where nothing stands in the way, the ramp is all that costs time."""
    run = _run("no limit")
    assert run.refused == 0
    assert run.accepted_at[-1] < 11


@pytest.mark.parametrize("kind", ["5 a second, tells", "60 a minute in windows, tells"])
def test_advice_is_worth_its_while(kind: str) -> None:
    """A server that says when to come back is used well: nearly all of what it allows."""
    run = _run(kind)
    ideal = (300 - 10) / 5 if kind.startswith("5") else (300 - 60) / 60 * 60
    assert run.accepted_at[-1] <= 1.35 * ideal


@pytest.mark.parametrize("kind", ["1 at once", "10 at once"])
def test_a_free_place_is_taken_soon(kind: str) -> None:
    """A limit of jobs at once is used well: a job that ends lets the next one in."""
    run = _run(kind)
    jobs, places = (20, 1) if kind.startswith("1 ") else (300, 10)
    assert run.now <= 1.15 * jobs / places * 30


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "no limit"])
def test_a_server_is_not_asked_in_vain_for_long(kind: str) -> None:
    """Told nothing, it is refused once for ten that are accepted; of twenty that go one by one, a few times more."""
    run = _run(kind)
    assert run.refused <= (0.1 if len(run.accepted_at) > 20 else 0.8) * len(run.accepted_at)
