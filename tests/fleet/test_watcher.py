"""Programs that wait for jobs: each gets its record once, and what one of them does disturbs no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import ClientClosed, JobError, JobStatus, LedgerError
from omni_async.fleet import Fleet
from omni_async.fleet.postgres.watcher import Watcher
from tests.support.fleet_rows import complete, execute
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from omni_async import JobRecord

pytestmark = needs_postgres


async def test_a_waiter_cancelled_as_its_job_ends_disturbs_no_other(fleet_url: str) -> None:
    """A waiter may be cancelled in the turn of the event loop in which its job is found to have ended."""
    waiters: dict[str, asyncio.Task[JobRecord]] = {}
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox", "hare": "a hare"})

        async def find(keys: list[str], **options: Any) -> dict[str, JobRecord]:
            found = await fleet._find_all(keys, **options)
            if found.get("fox") is not None and found["fox"].status is JobStatus.COMPLETED:
                waiters["fox"].cancel()
            return found

        watcher = Watcher(fleet.database, fleet.account, find)
        try:
            waiters |= {key: asyncio.create_task(watcher.wait(key)) for key in ("fox", "hare")}
            await asyncio.sleep(0.2)
            await complete(fleet_url, "fox", "fox.mp4")
            await asyncio.wait({waiters["fox"]}, timeout=10)
            assert waiters["fox"].cancelled()
            await complete(fleet_url, "hare", "hare.mp4")
            async with asyncio.timeout(10):
                assert (await waiters["hare"]).key == "hare"
                assert (await watcher.wait("fox")).status is JobStatus.COMPLETED
        finally:
            await watcher.stop(ClientClosed("closed"))


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "", "x" * 5000])
async def test_a_key_that_cannot_be_one_disturbs_no_other_waiter(fleet_url: str, key: str) -> None:
    """Such a job does not exist. Those who wait for others continue to wait, and later ones may come."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        fox = asyncio.create_task(fleet.job("fox").ended())
        with pytest.raises(JobError, match="there is no job"):
            await fleet.job(key)
        assert await fleet.find(key) is None
        assert await fleet.cancel(key) is False
        await complete(fleet_url, "fox", "fox.mp4")
        async with asyncio.timeout(10):
            assert (await fox).status is JobStatus.COMPLETED
            assert (await fleet.job("fox").ended()).status is JobStatus.COMPLETED


async def test_a_row_that_cannot_be_read_fails_its_waiter_only(fleet_url: str) -> None:
    """Another version or a person may have written it. Of many jobs that are checked together, the others are read."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({str(number): f"fox {number}" for number in range(20)})
        waiters = {number: asyncio.create_task(fleet.job(str(number)).ended()) for number in range(20)}
        await asyncio.sleep(0.2)
        await execute(fleet_url, "UPDATE omni_jobs SET status = 'completed', paths = '[]' WHERE key <> '7'")
        await execute(fleet_url, "UPDATE omni_jobs SET status = 'imagined' WHERE key = '7'")
        await asyncio.wait(waiters.values(), timeout=10)
    assert [number for number, waiter in waiters.items() if waiter.exception() is not None] == [7]


async def test_nobody_listens_before_somebody_waits(fleet_url: str) -> None:
    """A program that only pauses or adds jobs needs one connection at a time."""
    listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'omni listener'"
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        await fleet.pause()
        await asyncio.sleep(0.2)
        assert await execute(fleet_url, listening) == [(0,)]
        waiter = asyncio.create_task(fleet.job("fox").wait())
        async with asyncio.timeout(10):
            while await execute(fleet_url, listening) == [(0,)]:
                await asyncio.sleep(0.05)
        waiter.cancel()


async def test_jobs_are_yielded_within_the_block_only(fleet_url: str) -> None:
    """Outside of `async with` the error says what to do, also before the fleet was ever open."""
    fleet = Fleet(fleet_url)
    with pytest.raises(ClientClosed, match="within `async with"):
        await anext(fleet.as_completed(["a fox"]))
    await execute(fleet_url, "UPDATE omni_schema SET version = 99")
    with pytest.raises(LedgerError, match="version 99"):
        await fleet.__aenter__()
    with pytest.raises(ClientClosed, match="within `async with"):
        await anext(fleet.as_completed(["a fox"]))


@pytest.mark.parametrize("fact", ['{"per_second": "x", "max_in_flight": []}', "[", "[]", '"x"', "null"])
async def test_limits_that_another_version_has_written_are_unknown(fleet_url: str, fact: str) -> None:
    """Whatever the fact holds, the state of the fleet can be read."""
    await execute(fleet_url, "INSERT INTO omni_facts VALUES ('default', 'limits', %s)", fact)
    async with Fleet(fleet_url) as fleet:
        [account] = (await fleet.statistics()).accounts
    assert (account.submits_per_minute, account.max_in_flight) == (None, None)
