"""`LearnedLimits`: what is known of an account's limits after a run. `AdaptiveRateLimiter` starts from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLimits:
    """The limits found so far, for statistics and for the next run. None where no limit was met.

    `per_second` is in submits per second. `burst` is how many were accepted before the rate limit took effect: 0 if
    hardly any. Where no limit was met at all, `free_per_second` is the highest pace that was tried, and `free_jobs` the
    number of submits that were accepted.
    """

    per_second: float | None = None
    max_in_flight: int | None = None
    burst: int = 0
    free_per_second: float = 0.0
    free_jobs: int = 0
