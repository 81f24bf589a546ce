"""`Pacer`: keeps a configured rate, evenly, as a strict server counts it. The submitter uses it.

Theory of operation. A server counts requests when they arrive, but `acquire` returns earlier. Between the two, a row is
written to disk and perhaps a connection is opened, which takes longer for some requests than for others. The interval
is therefore kept twice: between acquisitions, and between the moments when requests really leave.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..timing import WakeEvent


# Each interval relative to the exact one: a strict server refuses a request that is a millisecond early. This costs 1 %
# of the configured rate. Half (1.005): 1.2 ms of tolerance at 240 a minute, less than the jitter of a busy event loop.
# Double (1.02): 2 % of the rate lost.
_SLACK = 1.01

# Requests whose time to leave is remembered. One alone may have opened a new connection; the least of three is the
# usual time. Half: a row of new connections lets the next request leave too early. Double: adapts more slowly to a
# slower disk. Chosen, not measured.
_REMEMBERED = 3


class Pacer:
    """Spaces requests evenly. `per_minute` is the configured rate in requests per minute."""

    def __init__(self, per_minute: float) -> None:
        self._interval = 60 / per_minute * _SLACK  # seconds
        # A bucket of one token: aiolimiter would let a larger bucket burst when it is full.
        self._limiter = AsyncLimiter(1, self._interval)
        self._sent_at = float("-inf")
        self._send_seconds: deque[float] = deque(maxlen=_REMEMBERED)  # from `wait_for_interval` until really sent

    async def acquire(self) -> None:
        """Wait until the next request may be prepared."""
        await self._limiter.acquire()

    async def wait_for_interval(self) -> Callable[[], None]:
        """Wait, after `acquire` and preparation, until enough time has passed since the last request left.

        Return a callback. Call it when the first byte of this request leaves.
        """
        while (delay := self._sent_at + self._interval - _now()) > 0:  # noqa: ASYNC110 - waits for time, not an event
            await asyncio.sleep(delay)
        self._sent_at = started_at = _now()
        return partial(self._on_sent, started_at)

    def _on_sent(self, started_at: float) -> None:
        seconds = _now() - started_at
        # The next request is expected to need the usual time as well, so only the excess delays it.
        usual = min(self._send_seconds, default=0.0)
        self._sent_at = max(self._sent_at, started_at + seconds - usual)
        self._send_seconds.append(seconds)


async def wait_for_turn(delay: Callable[[], float | None], wake: WakeEvent, pacer: Pacer | None) -> None:
    """Wait until `delay()` returns 0 seconds and a configured rate is kept.

    `delay` is asked again after the time that it returned, or when `wake` is set; None means to wait for that alone.
    """
    is_paced = pacer is None
    while (wait := delay()) != 0 or not is_paced:
        if wait == 0 and pacer is not None:
            await pacer.acquire()  # the limiter may pause meanwhile, so it is asked again
        else:
            await wake.wait(wait)
        is_paced = wait == 0 or pacer is None  # a tick of the pacer that was not used is lost


def _now() -> float:
    return asyncio.get_running_loop().time()
