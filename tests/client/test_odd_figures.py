"""Figures of a server that cannot be true lower no total, make no room under a cost limit, and are said once."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import CostLimitReached, JobStatus, LedgerReader, Limits
from omni_async.api.parsing import Response
from omni_async.ledger import MemoryJobStore, SqliteJobStore
from omni_async.ledger.row_format import COLUMNS
from tests.support.fakes import FakeClient, Server
from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from pathlib import Path

# As they stand in the JSON of a response.
ODD_AMOUNTS = [
    "-1",
    "-0.000001",
    "-1e308",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    '"NaN"',
    '"-3"',
    "1e300",
    "true",
    "[]",
]
ODD_TIMES = ["-5", "1e308", "1e400", "NaN", '"soon"', "253402300800000000", "-1e20", "true", "[]", "{}"]


def _server(figures: dict[str, str]) -> Server:
    """Return a server whose status responses have these figures, written as they are."""
    server = Server(duration=20.0)
    check = server.check

    async def odd(task_id: str) -> Response:
        response = await check(task_id)
        body = json.loads(response.body)
        marks = {name: f"@{name}@" for name in figures}
        body["data"].update(marks)
        text = json.dumps(body)
        for name, mark in marks.items():
            text = text.replace(f'"{mark}"', figures[name])
        return Response(response.status, response.headers, text.encode())

    server.check = odd  # type: ignore[method-assign]
    return server


@pytest.mark.parametrize("amount", ODD_AMOUNTS)
async def test_an_amount_that_cannot_be_true_makes_no_room(
    tmp_path: Path, amount: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The jobs count as not priced: under a limit of $3.50 three of them are sent, and a warning says so once."""
    server = _server({"cost": amount, "credits_cost": amount})
    async with FakeClient(server, tmp_path, limits=Limits(max_cost=3.5)) as client:
        results = await asyncio.gather(*(client.submit(f"p{n}") for n in range(9)), return_exceptions=True)
        statistics = client.statistics()
        forecast = client.forecast()
    assert len(server.posts) == 3
    assert sum(isinstance(result, CostLimitReached) for result in results) == 6
    assert (statistics.cost, statistics.credits, forecast.cost) == (0.0, 0.0, None)
    warnings = [text for record in caplog.records if "cannot be true" in (text := record.getMessage())]
    assert len(warnings) == 1
    assert "counts as not priced" in warnings[0]


async def test_a_job_of_which_one_amount_is_true_is_priced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The warning says with how much it counts."""
    async with FakeClient(_server({"cost": "1.5", "credits_cost": '"many"'}), tmp_path) as client:
        await client.submit("p")
        assert client.statistics().cost == 1.5
    [warning] = [text for record in caplog.records if "cannot be true" in (text := record.getMessage())]
    assert "credits_cost: many" in warning
    assert "counts with $1.50" in warning


async def test_credits_give_the_price_where_the_cost_cannot_be_true(tmp_path: Path) -> None:
    """Ten credits are one dollar."""
    server = _server({"cost": "-1", "credits_cost": "2.6"})
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await job
        assert job.cost == 0.26


@pytest.mark.parametrize("name", ["estimated_time", "actual_time", "progress", "created", "completed"])
@pytest.mark.parametrize("value", ODD_TIMES)
async def test_a_time_that_cannot_be_true_delays_no_clip(
    tmp_path: Path, name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Twelve jobs have their clips about as soon as ever, the forecast is a number, and no planning has failed."""
    caplog.set_level(logging.WARNING)
    server = _server({name: value})
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(12)]
        await asyncio.sleep(10)
        forecast = client.forecast()
        await asyncio.gather(*jobs)
        assert server.now() < 1000 + 120
        assert all(0.0 <= job.progress <= 100.0 for job in jobs)
    assert forecast.seconds_left is None or 0 <= forecast.seconds_left < 1e6
    assert not caplog.records


ODD_ROWS = {"cost": -5.0, "previous_cost": -7.0, "credits": -50.0, "server_seconds": -3.0}


async def _write(path: Path, **odd: Any) -> None:
    """Write a ledger with a job for $2 and a completed one with odd figures, as an older version left them."""
    async with opened(path) as ledger:
        await ledger.save(record_of("good", status="completed", task_id="task_1", cost=2.0, credits=20.0))
        await ledger.save(record_of("odd", status="completed", task_id="task_2", cost=1.0))
    assert set(odd) <= set(COLUMNS)
    with closing(sqlite3.connect(path)) as db:
        for name, value in odd.items():
            db.execute(f"UPDATE jobs SET {name} = ? WHERE key = 'odd'", (value,))
        db.commit()


class TestLedgers:
    """Rows that an older version has written."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Return the backend for real time."""
        return "asyncio"

    @pytest.mark.parametrize("value", [-5.0, -0.001, -1e300, 1e300], ids=str)
    async def test_rows_with_odd_figures_lower_no_total(self, tmp_path: Path, value: object) -> None:
        """The sums are those of the other job, and the odd one counts as not priced."""
        path = tmp_path / "ledger.db"
        await _write(path, **dict.fromkeys(ODD_ROWS, value))
        store = SqliteJobStore(path)
        await store.open()
        try:
            spending = await store.spending()
            durations = await store.durations()
            found = await store.find("odd")
        finally:
            await store.aclose()
        assert (spending.paid, spending.priced_jobs, spending.unpriced_jobs) == (2.0, 1, 1)
        assert found is not None
        assert (found.cost, found.credits, found.previous_cost, found.total_cost) == (None, None, 0.0, 0.0)
        assert [record.server_seconds for record in durations if record.key == "odd"] in ([], [None])
        with LedgerReader(path) as reader:
            totals = reader.totals()
        assert (totals.cost, totals.credits) == (2.0, 20.0)


async def test_an_old_ledger_makes_no_room_under_a_limit(tmp_path: Path) -> None:
    """A row with -$1000 is worth nothing: one job for $2 is paid, so a limit of $3 leaves no room for two more."""
    store = MemoryJobStore()
    await store.save(record_of("good", status=JobStatus.COMPLETED, task_id="task_1", cost=2.0))
    await store.save(record_of("odd", status=JobStatus.FAILED, task_id="task_2", cost=-1000.0))
    server = Server(cost=0.5)
    async with FakeClient(server, tmp_path, ledger=store, limits=Limits(max_cost=3.0)) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(9)), return_exceptions=True)
    assert len(server.posts) < 3
