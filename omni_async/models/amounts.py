"""Which amounts from a server, or from an old ledger, are plausible. Only those count. Pure functions.

A negative price would lower the total and make room under a cost limit, and one that is not finite would make sums
meaningless. Such a figure is treated as if the server had not said anything: the job counts as not priced yet.
"""

from __future__ import annotations

# USD for one job. Documented prices end at $0.88 a clip; this is a million times as much, and can only be a mistake of
# units or nonsense. It also keeps sums exact: a float holds cents up to 9e13, so up to 90 million jobs of this price.
MAX_USD = 1e6
CREDITS_PER_USD = 10.0
# Seconds that a task may take, as far as a server is believed: 30 days. Longer is a mistake of units, such as
# milliseconds. At half, nothing would be lost; at double, neither.
MAX_SECONDS = 30 * 86_400.0


def plausible_usd(value: object) -> float | None:
    """Return an amount of money for one job; None for anything that cannot be one."""
    return _number_up_to(MAX_USD, value)


def plausible_credits(value: object) -> float | None:
    """Return a number of credits for one job; None for anything that cannot be one."""
    return _number_up_to(MAX_USD * CREDITS_PER_USD, value)


def plausible_seconds(value: object) -> float | None:
    """Return how long a task takes or took; None for anything that cannot be that."""
    return _number_up_to(MAX_SECONDS, value)


def _number_up_to(limit: float, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= limit:  # nor NaN
        return None
    return float(value) + 0.0  # -0.0 becomes 0.0
