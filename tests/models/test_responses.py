"""What the values that the API returns mean."""

from __future__ import annotations

import pytest

from omni_async import Balance


@pytest.mark.parametrize(
    ("balance", "usd"),
    [
        (Balance(remaining=3.5), 3.5),
        (Balance(remaining=3.5, remaining_credits=20.0), 2.0),
        (Balance(remaining=-1.0, unlimited=True), None),
        (Balance(remaining_credits=0.0), 0.0),
        (Balance(), None),
    ],
)
def test_a_balance_in_usd_follows_from_its_credits(balance: Balance, usd: float | None) -> None:
    """Ten credits are a USD. Without credits the amount counts as USD; without a limit, or a figure, nothing does."""
    assert balance.remaining_usd == usd
