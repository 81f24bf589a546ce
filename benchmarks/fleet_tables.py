"""What the tables of a fleet bear: new rows and durable intents per second, and the queue among millions of rows.

Used by `fleet`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omni_async import JobStatus, VideoRequest
from omni_async.fleet import Database, Fleet
from omni_async.fleet.job_feed import FEED
from omni_async.fleet.postgres.store import PostgresJobStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omni_async.jobs.records import JobRecord

_PROMPT = "a red apple on a wooden table, number {}, soft light from the left, slow pan, short cinematic clip"
_AHEAD = 400  # rows that a leader asks for at a time
_STEP = 1_000_000  # rows made by one statement
_BEGINNING = (-(2**31), 0)

# Rows as after a long run: nine of ten jobs are completed, the others wait. Only the names differ from real ones.
_FILL = """
INSERT INTO omni_jobs (account, key, idempotency_key, status, task_id, created_at, submits, ambiguous_submits, error,
    previous_cost, cost, finished_at)
SELECT 'large', 'a-red-apple-' || n, 'omni-' || md5(n::text), CASE WHEN n <= {done} THEN 'completed' ELSE 'waiting' END,
    CASE WHEN n <= {done} THEN 'task_' || md5(n::text) END, 1.8e9 + n, (n <= {done})::int, 0, '', 0,
    CASE WHEN n <= {done} THEN 0.8 END, CASE WHEN n <= {done} THEN 1.8e9 + n END
FROM generate_series({first}, {last}) AS n
"""
# What the queue's index holds before a vacuum: the jobs that have left it. One comes when a fiftieth of the rows has
# changed (`autovacuum_vacuum_scale_factor` of the table).
_SUBMIT_SOME = """
UPDATE omni_jobs SET status = 'completed' WHERE id IN (
    SELECT id FROM omni_jobs WHERE account = 'large' AND status = 'waiting'
    AND (parent IS NULL OR parent_task_id IS NOT NULL) ORDER BY -priority, id LIMIT {count})
"""


def _requests(first: int, count: int) -> Iterator[tuple[str, VideoRequest]]:
    for number in range(first, first + count):
        yield f"k{number:08}", VideoRequest(prompt=_PROMPT.format(number))


async def enqueued_per_second(url: str, rows: int, first: int) -> float:
    """Return rows per second of `Fleet.enqueue`. The requests are made beforehand: that is not the fleet's work."""
    requests = dict(_requests(first, rows))
    async with Fleet(url, account="intents") as fleet:
        start = time.perf_counter()
        result = await fleet.enqueue(requests)
        seconds = time.perf_counter() - start
    assert result.new == rows
    return rows / seconds


async def intents_per_second(url: str, writers: int, each: int, repetitions: int) -> list[float]:
    """Return durable intents per second of concurrent writers, each of which awaits one before the next.

    An intent is the record that a job is about to be submitted. The jobs are those that wait in the account `intents`.
    """
    database = Database(url)
    async with await database.connect("benchmark") as db:
        cursor = await db.execute(
            "UPDATE omni_accounts SET epoch = epoch + 1 WHERE account = 'intents' RETURNING epoch, omni_timeline()"
        )
        epoch, timeline = await cursor.fetchone() or (0, 0)
    store = PostgresJobStore(database, "intents", epoch=epoch, timeline=timeline)
    await store.open()
    rates = []
    try:
        count = writers * each
        records = (await store.unfinished(0, repetitions * count)).records
        for repetition in range(repetitions):
            part = records[repetition * count :][:count]
            start = time.perf_counter()
            await asyncio.gather(*(_intend(store, part[number::writers]) for number in range(writers)))
            rates.append(count / (time.perf_counter() - start))
    finally:
        await store.aclose()
    return rates


async def _intend(store: PostgresJobStore, records: list[JobRecord]) -> None:
    for record in records:
        await store.save(replace(record, status=JobStatus.SUBMITTING, submits=1, submitted_at=time.time()))


async def measure_queue(url: str, rows: int) -> dict[str, Any]:
    """Make that many jobs and return the milliseconds of reading the queue's head, and of the sums over all jobs.

    The head is read where nothing has changed, and then past the jobs that have left it since the last vacuum: from the
    beginning, as every five seconds, and from the cursor, as otherwise. Each time is the least of nine.
    """
    async with await Database(url).connect("benchmark") as db:
        await db.execute("INSERT INTO omni_accounts (account) VALUES ('large') ON CONFLICT DO NOTHING")
        start = time.perf_counter()
        await db.execute("ALTER TABLE omni_jobs DISABLE TRIGGER USER")  # each statement would keep its rows in memory
        for first in range(1, rows + 1, _STEP):
            last = min(first + _STEP - 1, rows)
            await db.execute(_FILL.format(done=rows * 9 // 10, first=first, last=last).encode())
        await db.execute("INSERT INTO omni_requests SELECT id, '{}' FROM omni_jobs WHERE account = 'large'")
        await db.execute("ALTER TABLE omni_jobs ENABLE TRIGGER USER")
        await db.execute("ANALYZE omni_jobs")
        filled = time.perf_counter() - start

        async def head(after: tuple[int, int]) -> tuple[float, list[Any]]:
            times = []
            for _ in range(9):
                start = time.perf_counter()
                cursor = await db.execute(FEED.encode(), ("large", *after, _AHEAD))
                found = await cursor.fetchall()
                times.append(1000 * (time.perf_counter() - start))
            assert found
            return min(times), found

        fresh, _ = await head(_BEGINNING)
        await db.execute(_SUBMIT_SOME.format(count=rows // 50).encode())
        used, found = await head(_BEGINNING)
        cursor, _ = await head((found[0][0], found[0][1] - 1))
        size = await (await db.execute("SELECT pg_total_relation_size('omni_jobs')")).fetchone() or (0,)
    async with Fleet(url, account="large") as fleet:
        start = time.perf_counter()
        await fleet.statistics()
        sums = 1000 * (time.perf_counter() - start)
    return {
        "what": f"queue among {rows:,} jobs",
        "ms": fresh,
        "ms, jobs have left it": used,
        "ms, from the cursor": cursor,
        "status, ms": sums,
        "GB": size[0] / 1e9,
        "made in s": filled,
    }
