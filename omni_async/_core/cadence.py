"""When a job is checked next: often where it is likely to finish, and never before anything can be done."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Polling

_EARLIEST = 1 / 2  # of the estimated time: before that, hardly any job is done


def next_gap(age: float, estimated_time: float | None, polling: Polling) -> float:
    """Give the seconds until the next check of a job that was accepted `age` seconds ago.

    `estimated_time` is the server's own estimate in seconds, if it gave one.

    The gap is ``sqrt(2 * check_cost / h)``, the square-root rule of inspection policies (Keller, Management Science
    21(3), 1974, after Barlow, Hunter and Proschan, 1963), for a hazard of ``h(t) = 2 / t``: that is what is known of a
    duration of which nothing is known but that it has lasted for t, or is expected to.
    """
    estimated_time = max(0.0, estimated_time or 0.0)
    gap = math.sqrt(polling.check_cost * max(age, estimated_time))
    not_before = estimated_time * _EARLIEST - age
    return min(max(gap, not_before, polling.minimum), polling.maximum)
