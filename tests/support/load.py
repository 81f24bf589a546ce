"""A simulation in virtual time: jobs submitted through one limiter to one account."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.ratelimit.adaptive import AdaptiveRateLimiter
    from omni_async.ratelimit.limiter import Permit
    from tests.support.accounts import Account


@dataclass
class Network:
    """The connection. `latency` and `detection_delay` are in seconds; `jitter` is a fraction of the latency.

    `latency` is the round trip; `detection_delay` is the mean delay until the client notices that a job finished.
    `lateness` is by how many seconds timers are late, on average: those of a busy event loop.
    """

    latency: float = 0.1
    jitter: float = 0.1
    detection_delay: float = 0.0
    lateness: float = 0.0


class Load:
    """One job per duration, submitted as the submitter does. `configured_rate` is kept by a pacer."""

    def __init__(
        self,
        limiter: AdaptiveRateLimiter,
        account: Account,
        durations: list[float],
        *,
        seed: int,
        network: Network | None = None,
        configured_rate: float | None = None,
    ) -> None:
        self.limiter = limiter
        self.account = account
        self.durations = durations
        self.network = network or Network()
        self.rng = random.Random(seed)
        self.interval = 1 / configured_rate if configured_rate else 0.0
        self.now = 0.0
        self.waiting = self.unfinished = len(durations)
        self.refused_at: list[float] = []
        self.accepted_at: list[float] = []
        self.finished_at = 0.0
        self.outstanding = 0
        self.max_outstanding = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self._probes_outstanding = 0
        self._next_by_pacer = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._event_count = 0
        self._wakes_at = math.inf

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule an action."""
        self._event_count += 1
        heapq.heappush(self._events, (when, self._event_count, action))

    def run(self, *, until: float = 1e6, stop: float = math.inf) -> None:
        """Run until every job has finished, or until `stop`. Fail if that takes longer than `until`."""
        self._submit_waiting()
        while self.unfinished and self.now < stop:
            assert self._events, "jobs still wait, but no event is scheduled"
            self.now, _, action = heapq.heappop(self._events)
            assert self.now < until, f"{self.waiting} jobs still wait after {until} s"
            action()
            self._submit_waiting()

    def _submit_waiting(self) -> None:
        while self.waiting:
            delay = self.limiter.delay(self.now)
            if delay is None:
                return
            delay = max(delay, self._next_by_pacer - self.now)
            if delay > 0:
                self._wake_in(delay)
                return
            self._next_by_pacer = self.now + self.interval
            self._send(self.limiter.acquire(self.now))

    def _wake_in(self, delay: float) -> None:
        late = self.rng.expovariate(1 / self.network.lateness) if self.network.lateness else 0.0
        wakes_at = self.now + max(delay, 1e-6) + late
        if wakes_at < self._wakes_at or self._wakes_at <= self.now:
            self._wakes_at = wakes_at
            self.at(wakes_at, lambda: None)

    def _one_way_latency(self) -> float:
        return self.network.latency / 2 * (1 + self.network.jitter * self.rng.uniform(-1, 1))

    def _send(self, permit: Permit) -> None:
        self.waiting -= 1
        self.outstanding += 1
        self._probes_outstanding += permit.is_probe
        self.max_outstanding = max(self.max_outstanding, self.outstanding)
        assert self._probes_outstanding <= 1, "two concurrent probes"
        self.at(self.now + self._one_way_latency(), lambda: self._arrive(permit))

    def _arrive(self, permit: Permit) -> None:
        delay = self.account.submit(self.now)
        if not delay:
            duration = self.durations[len(self.accepted_at)]
            self.accepted_at.append(self.now)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self.at(self.now + duration, self._finish)
        retry_after = self.account.retry_after_for(self.now, delay) if delay else None
        self.at(self.now + self._one_way_latency(), lambda: self._answer(permit, delay, retry_after))

    def _answer(self, permit: Permit, delay: float, retry_after: float | None) -> None:
        self.outstanding -= 1
        self._probes_outstanding -= permit.is_probe
        if not delay:
            self.limiter.on_success(permit, self.now, accepted=True)
        else:
            self.refused_at.append(self.now)
            self.waiting += 1
            self.limiter.on_rate_limited(permit, self.now, retry_after=retry_after, jitter=self.rng.random())
            assert not self.limiter.should_give_up(self.now), "gave up on a working server"

    def _finish(self) -> None:
        self.account.job_finished(self.now)
        self.in_flight -= 1
        self.unfinished -= 1
        self.finished_at = self.now
        ended_at, mean = self.now, self.network.detection_delay
        delay = mean * self.rng.uniform(0, 2) if mean else 0.0
        self.at(self.now + delay, lambda: self.limiter.job_finished(self.now, ended_at=ended_at))
