"""Few checks, little delay: how long until a job is looked at again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async._core.cadence import next_gap
from omni_async._core.settings import Polling

_POLLING = st.builds(
    lambda minimum, factor: Polling(minimum=minimum, maximum=minimum * factor), st.floats(0.01, 60), st.floats(1, 100)
)
_AGES = st.floats(0, 1e6)
_ESTIMATES = st.none() | st.floats(-10, 1e6)


@given(_AGES, _ESTIMATES, _POLLING)
def test_a_gap_keeps_within_its_bounds(age: float, estimate: float | None, polling: Polling) -> None:
    """The user's minimum and maximum hold for every job, young or old, with or without an estimate."""
    assert polling.minimum <= next_gap(age, estimate, polling) <= polling.maximum


@given(_AGES, st.sampled_from([None, 0.0, -5.0]))
def test_a_senseless_estimate_counts_as_none(age: float, estimate: float | None) -> None:
    """Nothing, zero and less mean the same."""
    assert next_gap(age, estimate, Polling()) == next_gap(age, None, Polling())


def test_no_look_comes_before_anything_can_be_done() -> None:
    """A job that is said to take a minute is not looked at in its first seconds."""
    assert next_gap(0, 60, Polling(maximum=600)) >= 20


def test_old_jobs_are_looked_at_more_seldom() -> None:
    """The gap grows with the age up to the maximum."""
    gaps = [next_gap(age, None, Polling()) for age in range(0, 600, 10)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == Polling().maximum


@given(st.floats(5, 1700), st.floats(10, 600))
def test_a_job_is_noticed_soon_and_cheaply(duration: float, estimate: float) -> None:
    """Whatever a job takes, it is noticed at most one maximum late, after a few dozen looks and not hundreds."""
    polling, age, looks = Polling(), 0.0, 0
    while age < duration:
        age += next_gap(age, estimate, polling)
        looks += 1
    assert age - duration <= polling.maximum
    assert looks <= 20 + duration / polling.maximum


@pytest.mark.parametrize("age", [20.0, 60.0])
def test_dearer_checks_are_made_less_often(age: float) -> None:
    """`check_cost` is how many seconds of waiting a status request is worth: more means fewer checks."""
    cheap, dear = Polling(check_cost=0.01, maximum=600), Polling(check_cost=100, maximum=600)
    assert next_gap(age, None, cheap) < next_gap(age, None, dear)
