"""What was billed: every shape of the answer is read, no amount is taken for zero, and long periods are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from omni_async import Retry, ServerError, Usage, UsageItem
from omni_async.api.parsing import parse_usage
from omni_async.api.queries import ApiQueries
from omni_async.timing import Clock
from tests.support.replies import reply

if TYPE_CHECKING:
    from omni_async.api.parsing import Response

ITEM = {"date": "2026-11-29", "model": "m", "amount_usd": 1.25, "credits": 12.5, "requests": 3, "prompt_tokens": 0}
EXPECTED = UsageItem(day="2026-11-29", model="m", cost=1.25, credits=12.5, requests=3)
TOTAL = {"amount_usd": 1.25, "credits": 12.5, "requests": 3}


@pytest.mark.parametrize(
    "content",
    [
        {"success": True, "data": {"total": TOTAL, "items": [ITEM]}},
        {"code": 200, "data": {"items": [ITEM]}},
        {"data": [ITEM]},
        {"items": [ITEM], "total": TOTAL},
        {"data": {"items": [ITEM | {"amount_usd": "1.25", "credits": "12.5", "requests": "3"}]}},
        {"data": {"items": [{name: value for name, value in ITEM.items() if name != "amount_usd"}]}},
        {"data": {"items": [{name: value for name, value in ITEM.items() if name != "credits"}]}},
        {"data": {"items": [ITEM | {"date": "2026-11-29T00:00:00+08:00"}]}},
    ],
)
def test_every_shape_is_read(content: dict[str, Any]) -> None:
    """Lists with and without an envelope, numbers as strings, and one of amount and credits left out."""
    assert parse_usage(reply(200, content)) == Usage(items=(EXPECTED,), cost=1.25, requests=3)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (503, {"error": {"code": "usage_unavailable"}}),
        (200, {"error": {"code": "usage_unavailable"}, "data": {"items": []}}),
        (200, {"success": False, "data": {"items": []}}),
        (200, {"data": {"total": TOTAL}}),
        (200, {"data": {"items": [ITEM, {"date": "2026-11-29", "model": "m", "requests": 3}]}}),
        (200, {"data": {"items": [ITEM | {"amount_usd": -1}]}}),
        (200, {"data": {"items": [ITEM | {"amount_usd": "much", "credits": None}]}}),
        (200, {"data": {"items": [ITEM | {"requests": None}]}}),
        (200, {"data": {"items": [ITEM], "total": {}}}),
        (200, {"data": {"items": ["m"]}}),
        (200, b'{"data": {"items": ['),
        (200, b"<html></html>"),
        (200, b""),
    ],
)
def test_what_is_no_bill_is_not_zero(status: int, content: Any) -> None:
    """An answer with an error, or with an amount that cannot be read, is no bill; an empty list is one of zero."""
    assert parse_usage(reply(status, content)) is None
    assert parse_usage(reply(200, {"data": {"items": []}})) == Usage(items=(), cost=0, requests=0)


class Bills:
    """A transport that answers questions about usage and keeps them."""

    def __init__(self, *answers: Response) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self._answers = list(answers)

    async def get(self, path: str) -> Response:
        """Answer with the next response, the last one again and again."""
        self.asked.append(parse_qs(urlsplit(path).query))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def queries(transport: Any) -> ApiQueries:
    """Return the queries over this transport."""
    return ApiQueries(transport, Retry(timeout=5.0, wait_initial=0.01), Clock())


async def test_a_long_period_is_asked_for_in_parts() -> None:
    """The server takes 31 days at a time; the parts join without a gap, and a day that is in two is added up."""
    bills = Bills(reply(200, {"data": {"items": [ITEM]}}))
    usage = await queries(bills).usage(1000.5, 1000 + 70 * 86_400, "account", "Asia/Shanghai")
    starts, ends = ([int(asked[name][0]) for asked in bills.asked] for name in ("start", "end"))
    assert (starts[0], ends[-1]) == (1000, 1000 + 70 * 86_400)
    assert starts[1:] == ends[:-1]
    assert all(end - start <= 31 * 86_400 for start, end in zip(starts, ends, strict=True))
    asked = bills.asked[0]
    assert (asked["group_by"], asked["scope"], asked["tz"]) == (["model,date"], ["account"], ["Asia/Shanghai"])
    assert usage == Usage(
        items=(UsageItem(day="2026-11-29", model="m", cost=3.75, credits=37.5, requests=9),), cost=3.75, requests=9
    )


async def test_a_bill_that_cannot_be_had_raises() -> None:
    """A 503 is retried and then raised: it never counts as zero."""
    unavailable = reply(503, {"error": {"code": "usage_unavailable", "message": "later"}})
    with pytest.raises(ServerError, match="later"):
        await queries(Bills(unavailable)).usage(0, 10, "key", "UTC")
    answers = Bills(unavailable, reply(200, {"data": {"items": [ITEM]}}))
    assert (await queries(answers).usage(0, 10, "key", "UTC")).cost == 1.25


@pytest.mark.parametrize(
    ("period", "scope"), [((10, 10), "key"), ((10, 5), "key"), ((0, float("nan")), "key"), ((0, 9), "all")]
)
async def test_a_question_without_sense_raises(period: tuple[float, float], scope: Any) -> None:
    """A period that ends before it begins, and another scope, raise before anything is sent."""
    bills = Bills(reply(200, {"data": {"items": []}}))
    with pytest.raises(ValueError, match="usage"):
        await queries(bills).usage(*period, scope, "UTC")
    assert bills.asked == []
