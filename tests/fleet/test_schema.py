"""The tables of a fleet: installed once, checked by every worker, and with sums that are always true."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import LedgerError
from omni_async.fleet.postgres import schema
from omni_async.fleet.postgres.database import Database
from omni_async.jobs.lifecycle import JobStatus
from omni_async.jobs.spending import Spending
from omni_async.ledger.row_format import COLUMNS, from_row, to_row
from tests.support.ledgers import record_of
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

    from tests.support.postgres import PostgresServer

pytestmark = needs_postgres


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[AsyncConnection[Any]]:
    """Connect to an empty database."""
    async with await Database(postgres_url).connect("test") as connection:
        yield connection


async def test_it_is_installed_once_by_any_number_of_processes(
    postgres_url: str, connection: AsyncConnection[Any]
) -> None:
    """A dry run changes nothing; of several at the same time one does the work, and a later one finds nothing to do."""
    database = Database(postgres_url)
    planned = await schema.install(postgres_url, dry_run=True)
    with pytest.raises(LedgerError, match="fleet init"):
        await schema.check(connection, database)
    done = await asyncio.gather(*[schema.install(database) for _ in range(3)])
    assert sorted(done, key=len) == [[], [], planned]
    assert len(planned) == 2
    assert await schema.install(postgres_url) == []
    await schema.check(connection, database)


async def test_a_database_that_does_not_hold_every_text_is_refused(postgres: PostgresServer) -> None:
    """The error says which encoding is needed, before any table is made."""
    name = "latin"
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(LedgerError, match=r"LATIN1.*ENCODING 'UTF8'") as caught:
            await schema.install(postgres.url(name))
        assert caught.value.permanent
    finally:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("version", [schema.SCHEMA_VERSION + 1, 0])
async def test_another_version_is_refused_and_left_alone(
    postgres_url: str, connection: AsyncConnection[Any], version: int
) -> None:
    """A worker says which of the two is older, and how that is mended."""
    await schema.install(postgres_url)
    await connection.execute("UPDATE omni_schema SET version = %s", (version,))
    with pytest.raises(LedgerError, match=r"Update omni_async|fleet init") as caught:
        await schema.check(connection, Database(postgres_url))
    assert caught.value.permanent
    if version:
        with pytest.raises(LedgerError, match="Update omni_async"):
            await schema.install(postgres_url)


async def test_a_user_without_permission_is_told_so(postgres_url: str, connection: AsyncConnection[Any]) -> None:
    """Tables are there, but not for this user."""
    await schema.install(postgres_url)
    name = f"reader_{random.randrange(10**9)}"
    await connection.execute(f"CREATE ROLE {name} LOGIN")
    try:
        database = Database(postgres_url.replace("omni@", f"{name}@"))
        async with await database.connect("test") as other:
            with pytest.raises(LedgerError, match="no permission") as caught:
                await schema.check(other, database)
        assert caught.value.permanent
    finally:
        await connection.execute(f"DROP ROLE {name}")


async def test_sums_follow_every_change(postgres_url: str, connection: AsyncConnection[Any]) -> None:
    """Whatever is inserted, changed or deleted, in whatever lots: the sums are those of the rows."""
    await schema.install(postgres_url)
    await connection.execute("INSERT INTO omni_accounts (account) VALUES ('a')")
    draw, names = random.Random(5), ", ".join(COLUMNS)
    marks = ", ".join(["%s"] * len(COLUMNS))

    def some(key: str) -> Any:
        status = draw.choice(list(JobStatus))
        facts: dict[str, Any] = {
            "task_id": draw.choice([None, f"t-{key}"]),
            "cost": draw.choice([None, 0.1, 0.25, -1.0]),
        }
        facts |= {"ambiguous_submits": draw.randrange(3), "submits": draw.randrange(4), "previous_cost": 0.3}
        return record_of(key, status=status, credits=draw.choice([None, 2.5, 1e9]), **facts)

    records = {}
    for number in range(60):
        record = some(f"k{number}")
        records[record.key] = record
        await connection.execute(f"INSERT INTO omni_jobs (account, {names}) VALUES ('a', {marks})", to_row(record))
    for _ in range(20):
        key = draw.choice(list(records))
        records[key] = record = some(key)
        assignments = ", ".join(f"{name} = %s" for name in COLUMNS)
        await connection.execute(f"UPDATE omni_jobs SET {assignments} WHERE key = %s", (*to_row(record), key))
    await connection.execute("UPDATE omni_jobs SET status = 'failed', cost = 0.5 WHERE status = 'running'")
    await connection.execute("DELETE FROM omni_jobs WHERE status = 'cancelled'")
    await connection.execute("UPDATE omni_jobs SET batch = 'b'")  # changes no sum, and so adds no row
    cursor = await connection.execute(f"SELECT {names}, '' FROM omni_jobs")
    left = [from_row(row) for row in await cursor.fetchall()]
    sums = {status: [each for each in left if each.status == status] for status in JobStatus}
    cursor = await connection.execute(
        "SELECT status, sum(jobs)::int, sum(submits)::int, sum(ambiguous_submits)::int, sum(possibly_paid_twice)::int,"
        " sum(cost)::float8, sum(credits)::float8, sum(priced)::int, sum(unpriced)::int FROM omni_totals"
        " WHERE account = 'a' GROUP BY status"
    )
    found = {row[0]: row[1:] for row in await cursor.fetchall()}
    for status, jobs in sums.items():
        total = sum((Spending.of(job) for job in jobs), Spending())
        expected: list[Any] = [len(jobs), sum(job.submits for job in jobs), sum(job.ambiguous_submits for job in jobs)]
        expected += [sum(job.possibly_paid_twice for job in jobs), pytest.approx(total.paid)]
        expected += [pytest.approx(sum(job.credits or 0 for job in jobs)), total.priced_jobs, total.unpriced_jobs]
        assert list(found.get(str(status), (0,) * 8)) == expected, status
