"""Programs that reach the database through pgbouncer in transaction mode learn of the end of every job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async.fleet import Database, Fleet
from tests.support.fleet_rows import complete, execute, keys, set_output_dir
from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.ports import free_port
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgres import PostgresServer

pytestmark = [needs_postgres, needs_pgbouncer]

POOL_SIZE = 5  # sessions of pgbouncer


@pytest.fixture
def pooled_url(postgres: PostgresServer, fleet_url: str) -> Iterator[str]:
    """Yield the URL of the same database through pgbouncer."""
    with pgbouncer(postgres) as port:
        yield fleet_url.replace(f":{postgres.port}/", f":{port}/")


async def enqueue_and_complete(fleet: Fleet, url: str) -> None:
    """Let two waiters wait for jobs that end afterwards, one by its key and one for all."""
    await set_output_dir(url, "/mnt/clips")

    async def wait_for_all() -> set[str]:
        return {job.key async for job in fleet.as_completed({"fox": "a fox", "hen": "a hen"})}

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        everything = group.create_task(wait_for_all())
        while set(await keys(url)) != {"fox", "hen"}:
            await asyncio.sleep(0.02)
        one = group.create_task(wait_for_clip(fleet, "fox"))
        await asyncio.sleep(0.5)
        await complete(url, "fox", "fox.mp4")
        await complete(url, "hen", "hen.mp4")
    assert everything.result() == {"fox", "hen"}
    assert one.result() == Path("/mnt/clips/fox.mp4")


async def wait_for_clip(fleet: Fleet, key: str) -> Path | str:
    """Return where the clip of a job is."""
    return await fleet.job(key)


@pytest.mark.slow
async def test_without_a_direct_way_the_database_is_asked(fleet_url: str, pooled_url: str) -> None:
    """Waiters learn of the end of their jobs by polling, and no session of the pooler is left listening."""
    async with Fleet(pooled_url) as fleet:
        await enqueue_and_complete(fleet, fleet_url)
        question = "SELECT pg_sleep(0.3), (SELECT count(*) FROM pg_listening_channels())"
        found = await asyncio.gather(*(execute(pooled_url, question) for _ in range(POOL_SIZE)))
    assert [rows[0][1] for rows in found] == [0] * POOL_SIZE


async def test_a_direct_way_brings_notifications(
    fleet_url: str, pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With OMNI_DIRECT_DATABASE_URL nothing has to be polled: an hour between two looks changes nothing."""
    monkeypatch.setattr("omni_async.fleet.postgres.watcher._INTERVAL", 3600.0)
    monkeypatch.setenv("OMNI_DATABASE_URL", pooled_url)
    monkeypatch.setenv("OMNI_DIRECT_DATABASE_URL", fleet_url)
    async with Fleet() as fleet:
        await enqueue_and_complete(fleet, fleet_url)


@pytest.mark.slow
async def test_a_direct_way_that_is_blocked_is_no_harm(fleet_url: str, pooled_url: str) -> None:
    """Where nothing answers at the direct URL, waiters learn of the end of their jobs by polling."""
    blocked = f"postgresql://omni@127.0.0.1:{free_port()}/x"
    async with Fleet(Database(pooled_url, direct_url=blocked)) as fleet:
        await enqueue_and_complete(fleet, fleet_url)
