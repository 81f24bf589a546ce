"""The queries that a leader repeats read a few entries of one index, however many rows there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async.fleet.job_feed import FEED
from omni_async.fleet.postgres.database import Database
from omni_async.fleet.postgres.rows import DEFER, LOST, SELECT
from tests.support.fleets import ACCOUNT
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

pytestmark = [needs_postgres, pytest.mark.slow]

ROWS = 200_000
# Nine of ten jobs are completed; of the rest every second one waits, and of these every tenth extends another job.
FILL = f"""
INSERT INTO omni_jobs (account, key, idempotency_key, status, created_at, submits, ambiguous_submits, error,
    previous_cost, parent, task_id, server_seconds, priority)
SELECT '{ACCOUNT}', 'k' || n, 'i' || n, CASE WHEN n % 10 > 0 THEN 'completed' WHEN n % 20 = 0 THEN 'waiting'
    WHEN n % 2000 = 10 THEN 'running' WHEN n % 2000 = 30 THEN 'unknown' ELSE 'failed' END, 0, 0, 0, '', 0,
    CASE WHEN n % 200 = 0 THEN 'k' || n - 1 END, CASE WHEN n % 20 > 0 THEN 't' || n END,
    CASE WHEN n % 10 > 0 THEN 5.0 END, n % 3
FROM generate_series(1, {ROWS}) AS n
"""


@pytest.fixture
async def db(fleet_url: str) -> AsyncIterator[AsyncConnection[Any]]:
    """Connect to a database with many jobs."""
    async with await Database(fleet_url).connect("test") as connection:
        await connection.execute(FILL.encode())
        await connection.execute("VACUUM ANALYZE omni_jobs")
        yield connection


async def test_each_repeated_query_uses_its_index(db: AsyncConnection[Any]) -> None:
    """None reads the whole table, and the queue comes in its order: the highest priority first, then the oldest.

    Children whose parents are not finished are not in it.
    """
    await _read_the_queue(db)
    after = (-(2**31), 0)
    questions: list[tuple[str, tuple[object, ...], str]] = [
        (FEED, (ACCOUNT, *after, 400), "omni_jobs_ready"),
        (FEED, (ACCOUNT, -1, ROWS // 2, 400), "omni_jobs_ready"),
        (
            "SELECT key FROM omni_jobs WHERE account = %s AND status IN ('submitting', 'running', 'downloading',"
            " 'timed_out', 'download_failed') AND status = 'running'",
            (ACCOUNT,),
            "omni_jobs_active",
        ),
        ("SELECT key FROM omni_jobs WHERE account = %s AND cancel_wanted", (ACCOUNT,), "omni_jobs_wanted"),
        (f"{SELECT} WHERE account = %s AND links_wanted AND status = 'downloading'", (ACCOUNT,), "omni_jobs_wanted"),
        (
            "SELECT DISTINCT parent FROM omni_jobs WHERE account = %s AND parent > %s AND status = 'waiting'"
            " AND parent IS NOT NULL AND parent_task_id IS NULL ORDER BY parent LIMIT 1000",
            (ACCOUNT, ""),
            "omni_jobs_children",
        ),
        (
            f"{SELECT} WHERE account = %s AND server_seconds IS NOT NULL ORDER BY accepted_at DESC, id DESC LIMIT 1000",
            (ACCOUNT,),
            "omni_jobs_measured",
        ),
        (f"{SELECT} WHERE account = %s AND task_id = %s", (ACCOUNT, "t1"), "omni_jobs_by_task"),
    ]
    for question, values, index in questions:
        cursor = await db.execute(f"EXPLAIN {question}".encode(), values)
        plan = "\n".join(line for (line,) in await cursor.fetchall())
        assert index in plan, plan
        assert "Seq Scan on omni_jobs" not in plan, plan


async def test_lost_downloads_are_searched_for_in_linear_time(fleet_url: str) -> None:
    """Also while Postgres has no statistics of the new rows: each job is never compared with each task."""
    async with await Database(fleet_url).connect("test") as connection:
        await connection.execute("ANALYZE")
        await connection.execute(
            "INSERT INTO omni_jobs (account, key, idempotency_key, status, task_id, created_at, submits,"
            " ambiguous_submits, error, previous_cost, changed_at) SELECT %s, 'k' || n, 'i', 'downloading', 't' || n,"
            " 0, 1, 0, '', 0, now() - interval '1 hour' FROM generate_series(1, 1000) AS n",
            (ACCOUNT,),
        )
        await connection.execute(DEFER.encode(), (ACCOUNT, [f"k{number}" for number in range(1, 1000)]))
        cursor = await connection.execute(f"EXPLAIN {LOST}".encode(), (ACCOUNT, 5))
        assert "Nested Loop" not in str(await cursor.fetchall())
        cursor = await connection.execute(LOST.encode(), (ACCOUNT, 5))
        assert await cursor.fetchall() == [("k1000",)]


async def _read_the_queue(db: AsyncConnection[Any]) -> None:
    cursor_at, order = (-(2**31), 0), []
    for _ in range(3):
        cursor = await db.execute(FEED.encode(), (ACCOUNT, *cursor_at, 400))
        found = await cursor.fetchall()
        cursor_at = found[-1][:2]
        order += [row[:2] for row in found]
    assert order == sorted(order)
    assert len(set(order)) == 1200
    cursor = await db.execute(
        "SELECT count(*) FROM omni_jobs WHERE id = ANY(%s) AND parent IS NOT NULL", ([number for _, number in order],)
    )
    assert await cursor.fetchone() == (0,)
