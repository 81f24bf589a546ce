"""`SavedLimits`: keeps what was learned of the account's limits in the store, so that the next run starts with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING

from ..jobs.store import LIMITS
from ..logs import get_logger
from ..ratelimit.learned import LearnedLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.store import JobStore
    from ..ratelimit.adaptive import AdaptiveRateLimiter

# Seconds between two rows. A crash loses at most as much of what was learned, which is learned again within minutes;
# less would add a write to every submit while the limiter is still learning.
_INTERVAL = 10.0

# Submits per second. At double, what a slow account allows is learned again in each run; at half, a wrong value in the
# ledger may delay a run by two hours.
_LOWEST_RATE = 1 / 3600

# The format of the fact. Increase it whenever a field of `LearnedLimits` changes its meaning. Another version is not
# read: the limits are learned again.
_VERSION = 2

_log = get_logger(__name__)


class SavedLimits:
    """The limits of one account at one server, between the rate limiter and the store. `wall` returns Unix seconds."""

    def __init__(
        self, store: JobStore, limiter: AdaptiveRateLimiter, server: str, *, wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._limiter = limiter
        self._server = server
        self._wall = wall
        self._saved = LearnedLimits()
        self._saved_at = 0.0

    async def load(self) -> None:
        """Give the limiter what an earlier run has learned. Raise `LedgerError`."""
        try:
            fact = json.loads(await self._store.get_fact(LIMITS) or "{}")
            if (fact.pop("server", None), fact.pop("version", None)) == (self._server, _VERSION):
                learned = LearnedLimits(**fact)
                if _is_plausible(learned):
                    self._saved = learned
                    self._limiter.load(learned)
        except (
            AttributeError,
            TypeError,
            ValueError,
            RecursionError,
        ):  # written by another version: the limits are learned again
            return

    def save(self, *, at_last: bool = False) -> None:
        """Record what the limiter has learned if it has changed; `at_last` without waiting for the interval."""
        learned, now = self._limiter.learned(), self._wall()
        if learned != self._saved and (at_last or now - self._saved_at >= _INTERVAL):
            self._saved, self._saved_at = learned, now
            _log.info("limits learned: %s", learned)
            self._store.set_fact(LIMITS, json.dumps({"server": self._server, "version": _VERSION, **asdict(learned)}))


def _is_plausible(learned: LearnedLimits) -> bool:
    """Return whether limits can have been learned. A ledger of somebody else could make a run wait without end."""
    rate, in_flight = learned.per_second, learned.max_in_flight
    return (
        (rate is None or (isinstance(rate, (int, float)) and _LOWEST_RATE <= rate < inf))
        and (in_flight is None or (isinstance(in_flight, int) and in_flight >= 1))
        and (isinstance(learned.burst, int) and learned.burst >= 0)
        and (isinstance(learned.free_per_second, (int, float)) and 0 <= learned.free_per_second < inf)
        and (isinstance(learned.free_jobs, int) and learned.free_jobs >= 0)
    )
