"""Programs that wait for jobs: each gets its record once, and what one of them does disturbs no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import ClientClosed, JobStatus, LedgerError
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
        watcher.start()
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
