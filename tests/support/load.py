"""Jobs that want through one gate to one account, on virtual time."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.ratelimit.limiter import Permit, RateLimiter
    from tests.support.accounts import Account


@dataclass
class Wire:
    """What lies between: seconds there and back, how uneven they are, and the mean time until an end is noticed."""

    latency: float = 0.1
    jitter: float = 0.1
    notice: float = 0.0


class Load:
    """So many jobs, let out by a gate as a submitter would."""

    def __init__(
        self,
        gate: RateLimiter,
        account: Account,
        durations: list[float],
        *,
        seed: int,
        wire: Wire | None = None,
        pace: float | None = None,
    ) -> None:
        self.gate = gate
        self.account = account
        self.durations = durations
        self.wire = wire or Wire()
        self.jitter = random.Random(seed)
        self.interval = 1 / pace if pace else 0.0
        self.now = 0.0
        self.waiting = self.unfinished = len(durations)
        self.refused_at: list[float] = []
        self.accepted_at: list[float] = []
        self.finished_at = 0.0
        self.on_wire = 0
        self.most_on_wire = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._probes_out = 0
        self._next_in_pace = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._wakes_at = math.inf

    def at(self, when: float, happen: Callable[[], None]) -> None:
        """Let something happen at a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))

    def go(self, *, until: float = 1e6, stop: float = math.inf) -> None:
        """Run until every job has ended (never later than `until`), or until `stop`."""
        self._let_out()
        while self.unfinished and self.now < stop:
            assert self._events, "nothing more will ever happen, and jobs still wait"
            self.now, _, happen = heapq.heappop(self._events)
            assert self.now < until, f"{self.waiting} still wait after {until} s"
            happen()
            self._let_out()

    def _let_out(self) -> None:
        while self.waiting:
            wait = self.gate.delay(self.now)
            if wait is None:
                return
            wait = max(wait, self._next_in_pace - self.now)
            if wait > 0:
                self._wake_in(wait)
                return
            self._next_in_pace = self.now + self.interval
            self._send(self.gate.acquire(self.now))

    def _wake_in(self, wait: float) -> None:
        wakes_at = self.now + max(wait, 1e-6)
        if wakes_at < self._wakes_at or self._wakes_at <= self.now:
            self._wakes_at = wakes_at
            self.at(wakes_at, lambda: None)

    def _half_way(self) -> float:
        return self.wire.latency / 2 * (1 + self.wire.jitter * self.jitter.uniform(-1, 1))

    def _send(self, permit: Permit) -> None:
        self.waiting -= 1
        self.on_wire += 1
        self._probes_out += permit.is_probe
        self.most_on_wire = max(self.most_on_wire, self.on_wire)
        assert self._probes_out <= 1, "two probes at once"
        self.at(self.now + self._half_way(), lambda: self._arrive(permit))

    def _arrive(self, permit: Permit) -> None:
        wait = self.account.ask(self.now)
        if not wait:
            duration = self.durations[len(self.accepted_at)]
            self.accepted_at.append(self.now)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.at(self.now + duration, self._end)
        advice = self.account.says(self.now, wait) if wait else None
        self.at(self.now + self._half_way(), lambda: self._return(permit, wait, advice))

    def _return(self, permit: Permit, wait: float, advice: float | None) -> None:
        self.on_wire -= 1
        self._probes_out -= permit.is_probe
        if not wait:
            self.gate.on_success(permit, self.now, accepted=True)
        else:
            self.refused_at.append(self.now)
            self.waiting += 1
            self.gate.on_rate_limited(permit, self.now, retry_after=advice, jitter=self.jitter.random())
            assert not self.gate.should_give_up(self.now), "it gives up on a server that is well"

    def _end(self) -> None:
        self.account.ended(self.now)
        self.in_flight -= 1
        self.unfinished -= 1
        self.finished_at = self.now
        ended_at = self.now
        notice = self.wire.notice * self.jitter.uniform(0, 2) if self.wire.notice else 0.0
        self.at(self.now + notice, lambda: self.gate.job_finished(self.now, ended_at=ended_at))
