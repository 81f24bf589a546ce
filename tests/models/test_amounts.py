"""Only figures that can be true count as money or time."""

from __future__ import annotations

import math

import pytest

from omni_async.models.amounts import MAX_USD, plausible_credits, plausible_seconds, plausible_usd

ODD = [-1, -0.01, -1e308, math.nan, math.inf, -math.inf, 1e300, 10**400, True, False, "1", None, [1], {}]


@pytest.mark.parametrize("reader", [plausible_usd, plausible_credits, plausible_seconds])
@pytest.mark.parametrize("value", ODD, ids=str)
def test_what_cannot_be_true_counts_as_unknown(reader: object, value: object) -> None:
    """Negative, not finite, beyond any price, or no number at all."""
    assert callable(reader)
    assert reader(value) is None


@pytest.mark.parametrize("value", [0, 0.26, 1, 880.0, MAX_USD])
def test_a_price_counts_as_it_is(value: float) -> None:
    """Also nothing at all: a task that was free."""
    assert plausible_usd(value) == value


def test_nothing_has_no_sign() -> None:
    """-0.0 would be shown as a negative amount."""
    found = plausible_usd(-0.0)
    assert found is not None
    assert math.copysign(1, found) == 1


def test_sums_of_the_largest_amounts_are_exact_to_the_cent() -> None:
    """A hundred thousand jobs of the highest price and one of a cent."""
    assert round(sum([MAX_USD] * 100_000 + [0.01]), 2) == 1e11 + 0.01
