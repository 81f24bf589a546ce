"""The measured throughput of submits."""

from __future__ import annotations

import pytest

from omni_async.ratelimit.throughput import Throughput


def test_the_throughput_is_that_of_recent_submits() -> None:
    """It is unknown at first. A change shows after as many submits as before it; an idle time resets it."""
    throughput = Throughput()
    for number in range(4):
        throughput.on_accepted(float(number))
    assert throughput.per_second(3.0) is None
    for number in range(4, 600):
        throughput.on_accepted(float(number))
    assert throughput.per_second(599.0) == pytest.approx(1.0, rel=0.02)
    for number in range(600):
        throughput.on_accepted(600 + 4.0 * number)
    assert throughput.per_second(3000.0) == pytest.approx(0.25, rel=0.1)
    throughput.on_idle()
    assert throughput.per_second(3000.0) is None
