"""What requests will cost and how long they will take: from the price table, and from what a ledger has recorded."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobRecord, JobStatus, LedgerReader, Limits, VideoRequest, estimate
from omni_async.client.estimates import PaidCosts, estimate_cost
from omni_async.jobs.store import LIMITS
from omni_async.models.prices import EstimateRange
from tests.support.ledgers import InlineJobStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TABLE = EstimateRange.between(0.264, 0.88)
EXACT = EstimateRange(0.3, 0.3, 0.3)


def paid(*costs: float) -> PaidCosts:
    """Return what clips have cost."""
    found = PaidCosts()
    for cost in costs:
        found.add(cost)
    return found


def test_without_a_ledger_the_table_counts() -> None:
    """The range is as wide as the table's; what the table does not have is counted as unknown."""
    found = estimate([VideoRequest(prompt="a"), VideoRequest(prompt="b"), VideoRequest(prompt="c", model="new")])
    assert found.cost is not None
    assert (found.cost.low, found.cost.high) == pytest.approx((0.528, 1.76))
    assert (found.jobs, found.unpriced, found.priced_by_ledger) == (3, 1, 0)
    assert found.by_model == {"gemini-omni-flash-preview": 2, "new": 1}
    assert found.video_seconds == EstimateRange(6, 13, 20)
    assert found.seconds_left is None
    assert estimate([VideoRequest(prompt="c", model="new")]).cost is None


def test_nothing_to_do_costs_nothing() -> None:
    """No requests have no cost and no unknown price, and take no time."""
    found = estimate([])
    assert (found.jobs, found.cost, found.unpriced, found.seconds_left) == (0, None, 0, 0.0)


def test_prompts_are_estimated_like_requests() -> None:
    """A string is the prompt of a request; a single one, whose letters would be counted, is refused."""
    assert estimate(["a fox", VideoRequest(prompt="b")]) == estimate(
        [VideoRequest(prompt="a"), VideoRequest(prompt="b")]
    )
    for single in ("a fox", VideoRequest(prompt="a fox")):
        with pytest.raises(TypeError, match="estimate takes an iterable of prompts and VideoRequests, not one"):
            estimate(single)  # type: ignore[arg-type]


def test_what_was_paid_narrows_the_range() -> None:
    """The more clips were paid for, the nearer is the estimate to their mean; it never leaves the table's range."""
    widths, expected = [], []
    for number in (0, 1, 5, 50, 500):
        found = estimate_cost(100, paid(*[0.4, 0.5] * (number // 2), *[0.45] * (number % 2)), TABLE)
        assert found is not None
        assert 26.4 <= found.low <= found.expected <= found.high <= 88.0
        widths.append(found.high - found.low)
        expected.append(found.expected)
    assert widths == sorted(widths, reverse=True)
    assert expected == sorted(expected, reverse=True)
    assert expected[-1] == pytest.approx(45, rel=0.01)


@pytest.mark.parametrize("jobs", [10, 100, 1000])
@pytest.mark.parametrize("pilot", [3, 10, 100])
def test_the_range_holds_what_is_then_paid(pilot: int, jobs: int) -> None:
    """After a few clips of 3 to 10 s, at least 19 of 20 totals lie within the range."""
    chance = random.Random(f"{pilot} {jobs}")
    inside = 0
    for _ in range(200):
        costs = [0.088 * chance.randint(3, 10) for _ in range(pilot + jobs)]
        found = estimate_cost(jobs, paid(*costs[:pilot]), TABLE)
        assert found is not None
        inside += found.low <= sum(costs[pilot:]) <= found.high
    assert inside >= 186


def test_a_price_that_has_changed_replaces_the_table() -> None:
    """What was charged contradicts the table: only that counts."""
    for table in (EXACT, TABLE, None):
        found = estimate_cost(10, paid(1.2, 1.2), table)
        assert found is not None
        assert (found.low, found.expected, found.high) == pytest.approx((12, 12, 12))
    assert estimate_cost(10, PaidCosts(), None) is None
    assert estimate_cost(10, PaidCosts(), EXACT) == EXACT * 10
    exact = estimate_cost(10, paid(0.3, 0.3), EXACT)
    assert exact is not None
    assert [exact.low, exact.expected, exact.high] == pytest.approx([3.0] * 3)


async def _ledger(tmp_path: Path, records: Iterable[JobRecord], **limits: object) -> Path:
    store = InlineJobStore(tmp_path / "ledger.db")
    await store.open()
    for record in records:
        await store.insert(record)
    if limits:
        await store.set_fact(LIMITS, json.dumps(limits))
    await store.aclose()
    return tmp_path / "ledger.db"


def _record(number: int, cost: float | None, status: JobStatus = JobStatus.COMPLETED, **fields: Any) -> JobRecord:
    request = VideoRequest(prompt=f"p{number}", **fields).to_json()
    return JobRecord(
        key=f"k{number}", request=request, status=status, task_id=f"t{number}", cost=cost, server_seconds=60.0
    )


async def test_a_ledger_knows_prices_and_time(tmp_path: Path) -> None:
    """Prices come from completed jobs of the same kind, the time from durations and learned limits."""
    records = [
        *(_record(number, 0.5) for number in range(20)),
        _record(20, 9.0, resolution="4k", model="gemini-omni-1.1-flash"),
        _record(21, 0.0, JobStatus.FAILED),
        _record(22, 2.0, model="new"),
    ]
    path = await _ledger(tmp_path, records, server="https://api", per_second=0.5, max_in_flight=None, burst=0)
    requests = [VideoRequest(prompt=f"q{number}") for number in range(120)]
    with LedgerReader(path) as reader:
        found = estimate(requests, reader)
        assert found.cost is not None
        assert found.cost.expected == pytest.approx(60, rel=0.02)
        assert found.priced_by_ledger == 120
        assert found.seconds_left == pytest.approx(120 / 0.5 + 60, rel=0.1)
        assert estimate(requests, reader, server="https://other").seconds_left is None
        slow = estimate(requests, reader, limits=Limits(submits_per_minute=6))
        assert slow.seconds_left == pytest.approx(120 / 0.1 + 60, rel=0.1)
        new = estimate([VideoRequest(prompt="a", model="new")], reader)
        assert (new.cost, new.unpriced) == (EstimateRange(2, 2, 2), 0)


@pytest.mark.parametrize(
    "limits",
    [
        {"per_second": 1e-300},
        {"per_second": float("inf")},
        {"per_second": 10**400},
        {"per_second": "5", "max_in_flight": [1]},
        {"per_second": -1, "max_in_flight": 0},
        {"per_second": True, "max_in_flight": None},
    ],
    ids=str,
)
async def test_limits_that_no_client_wrote_do_no_harm(tmp_path: Path, limits: dict[str, object]) -> None:
    """A ledger of somebody else may hold anything: the estimate is made, without an error."""
    path = await _ledger(tmp_path, [_record(1, 0.5)], **limits)
    with LedgerReader(path) as reader:
        found = estimate([VideoRequest(prompt="a")], reader)
    assert found.jobs == 1
    assert found.seconds_left is None or found.seconds_left < 1e5
