"""The leader of an account, without workers: finished jobs stay `downloading`, handed over."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")
pytest.importorskip("av", reason="the sandbox renders clips with the extra `media`")

from omni_async import JobStatus, Polling, Retry, VideoRequest
from omni_async.fleet import Fleet, install
from omni_async.fleet.leader import Leader
from omni_async.fleet.postgres.database import Database
from omni_async.fleet.postgres.lease import can_lead
from omni_async.fleet.postgres.rows import SELECT
from omni_async.jobs.records import JobRecord
from omni_async.ledger.row_format import from_row
from omni_async.sandbox import Sandbox
from tests.support.fleets import ACCOUNT, opened_fleet
from tests.support.postgres import needs_postgres, own_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

pytestmark = [
    needs_postgres,
    pytest.mark.slow,
    pytest.mark.skipif(not can_lead(), reason="this machine has no clock that runs while it sleeps"),
]

KEY = "sk-sandbox"


class Rows:
    """The rows of one account, and what people do to them."""

    def __init__(self, url: str, db: AsyncConnection[Any]) -> None:
        self.url = url
        self.db = db

    async def enqueue(self, count: int, **facts: Any) -> None:
        """Add jobs k0, k1, ..."""
        async with Fleet(self.url) as fleet:
            await fleet.enqueue(
                {f"k{number}": VideoRequest(prompt=f"fox {number}") for number in range(count)}, **facts
            )

    async def counts(self) -> dict[str, int]:
        """Return how many jobs there are of each status."""
        return dict(await self.select("SELECT status, count(*)::int FROM omni_jobs GROUP BY status"))

    async def select(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return await (await self.db.execute(query.encode())).fetchall()

    async def until(self, query: str, expected: object = True, seconds: float = 20.0) -> None:
        """Wait until a query gives a value."""
        async with asyncio.timeout(seconds):
            while (await self.select(query))[0][0] != expected:
                await asyncio.sleep(0.05)

    async def until_counts(self, **expected: int) -> None:
        """Wait until there are so many jobs of each status, and no other."""
        counts: dict[str, int] = {}
        with anyio.move_on_after(60):  # a database that comes back slowly is no fault
            while (counts := await self.counts()) != expected:
                await asyncio.sleep(0.05)
        assert counts == expected


@pytest.fixture
async def rows(fleet_url: str) -> AsyncIterator[Rows]:
    """Return the account of an empty fleet."""
    async with await Database(fleet_url).connect("test") as db:
        yield Rows(fleet_url, db)


@asynccontextmanager
async def leading(rows: Rows, sandbox: Sandbox, worker: str = "w", **settings: Any) -> AsyncIterator[Leader]:
    """Run a leader for this block, which begins when it leads."""
    common: dict[str, Any] = {"api_key": KEY, "base_url": sandbox.base_url, "lease_seconds": 2.0}
    common |= {"polling": Polling(min_interval=0.05, max_interval=0.3), "retry": Retry(timeout=20, wait_initial=0.05)}
    leader = Leader(Database(rows.url), ACCOUNT, worker, **common | settings)
    task = asyncio.create_task(leader.run())
    try:
        async with asyncio.timeout(15):
            while not leader.is_leading and not task.done():
                await asyncio.sleep(0.02)
        yield leader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def quick(**settings: Any) -> Sandbox:
    """Return a sandbox with short tasks."""
    return Sandbox(**{"prerendered": True, "median": 0.3, "sigma": 0.1, "seconds": 5} | settings)


async def test_finished_jobs_are_given_to_the_workers_with_their_links(rows: Rows) -> None:
    """Each row has its price, its task and its links, and one task of the queue of downloads."""
    async with quick() as sandbox:
        await rows.enqueue(20)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=20)
        assert await rows.select("SELECT count(DISTINCT task_id), count(cost), count(videos) FROM omni_jobs") == [
            (20, 20, 20)
        ]
        assert await rows.select("SELECT count(*), count(DISTINCT args) FROM procrastinate_jobs") == [(20, 20)]
        assert sandbox.record.submits == 20


async def test_a_successor_continues_what_is_in_flight(rows: Rows) -> None:
    """Nothing is submitted again, and what was running is followed by the next leader at once."""
    async with quick(median=3.0) as sandbox:
        await rows.enqueue(12)
        async with leading(rows, sandbox, lease_seconds=30.0):
            await rows.until("SELECT count(*) >= 8 FROM omni_jobs WHERE status = 'running'")
        async with leading(rows, sandbox, "other"):
            await rows.until_counts(downloading=12)
        assert len(sandbox.record.tasks) == 12
        assert await rows.select("SELECT epoch FROM omni_accounts") == [(2,)]


@pytest.mark.parametrize("state", ["paused", "draining"])
async def test_an_account_is_held_and_let_go(rows: Rows, state: str) -> None:
    """While it is paused or drains, jobs in flight are followed and nothing is submitted; then all of it is."""
    async with quick(per_minute=600, burst=10) as sandbox, Fleet(rows.url) as fleet:
        await rows.enqueue(30)
        async with leading(rows, sandbox) as leader:
            await rows.until("SELECT count(*) >= 5 FROM omni_jobs WHERE task_id IS NOT NULL")
            await (fleet.pause() if state == "paused" else fleet.drain())
            await rows.until(f"SELECT stopped LIKE '%{state}%' FROM omni_accounts")
            await rows.until("SELECT count(*) FROM omni_jobs WHERE status IN ('submitting', 'running')", 0)
            submits = sandbox.record.submits
            assert 5 <= submits < 30
            assert state in leader.stopped
            await asyncio.sleep(1.0)
            assert sandbox.record.submits == submits
            await fleet.resume()
            await rows.until_counts(downloading=30)
            assert await rows.select("SELECT stopped FROM omni_accounts") == [(None,)]
        assert len(sandbox.record.tasks) == 30


async def test_without_credit_the_queue_waits_for_a_person(rows: Rows) -> None:
    """The reason stands in the account's row; after a resume, what is left is submitted."""
    async with quick(credits=30.0) as sandbox, Fleet(rows.url) as fleet:
        await rows.enqueue(20)
        async with leading(rows, sandbox):
            await rows.until("SELECT stopped IS NOT NULL FROM omni_accounts")
            await rows.until("SELECT count(*) FROM omni_jobs WHERE status IN ('submitting', 'running')", 0)
            assert set(await rows.counts()) == {"waiting", "downloading"}
            object.__setattr__(sandbox.settings, "credits", None)
            await fleet.resume()
            await rows.until_counts(downloading=20)
        assert len(sandbox.record.tasks) == 20


async def test_a_cost_limit_in_the_row_stops_and_a_higher_one_continues(rows: Rows) -> None:
    """The limit is the account's, whichever worker leads, and is obeyed within seconds."""
    async with quick() as sandbox, Fleet(rows.url) as fleet:
        await rows.db.execute("UPDATE omni_accounts SET max_cost = 3")
        await rows.enqueue(12)
        async with leading(rows, sandbox):
            await rows.until("SELECT stopped LIKE '%cost limit%' FROM omni_accounts")
            (paid,) = (await rows.select("SELECT sum(cost)::float8 FROM omni_totals"))[0]
            assert 0 < paid <= 3
            await fleet.resume(max_cost=100.0)
            await rows.until_counts(downloading=12)


async def test_jobs_are_cancelled_wherever_they_are(rows: Rows) -> None:
    """One that waits costs nothing; one that runs and one that is downloaded are given up here."""
    async with quick(median=30.0, max_in_flight=2) as sandbox, Fleet(rows.url) as fleet:
        await rows.enqueue(4)
        async with leading(rows, sandbox):
            await rows.until("SELECT count(*)::int FROM omni_jobs WHERE status = 'running'", 2)
            keys = [key for (key,) in await rows.select("SELECT key FROM omni_jobs ORDER BY status, key")]
            await rows.db.execute("UPDATE omni_jobs SET status = 'downloading' WHERE key = %s", (keys[0],))
            for key in (keys[0], keys[1], keys[3]):
                await fleet.cancel(key)
            await rows.until("SELECT count(*)::int FROM omni_jobs WHERE cancel_wanted", 0)
        cancelled = {key for (key,) in await rows.select("SELECT key FROM omni_jobs WHERE status = 'cancelled'")}
        assert {keys[1], keys[3]} <= cancelled
        assert len(sandbox.record.tasks) <= 3


async def test_links_that_do_not_work_are_renewed(rows: Rows) -> None:
    """A worker asks for others in the row; the leader checks the task and gives the job to the workers again."""
    async with quick() as sandbox:
        await rows.enqueue(1)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=1)
            before = await rows.select("SELECT videos FROM omni_jobs")
            await rows.db.execute("UPDATE omni_jobs SET links_wanted = true, error = 'HTTP 403', videos = NULL")
            await rows.until("SELECT links_wanted FROM omni_jobs", False)
            assert await rows.select("SELECT status, error FROM omni_jobs") == [("downloading", "")]
            assert await rows.select("SELECT videos IS NOT NULL FROM omni_jobs") == [(True,)]
            assert await rows.select("SELECT count(*)::int FROM procrastinate_jobs") == [(2,)]
            assert before != [(None,)]


async def test_links_of_a_task_that_failed_end_the_job(rows: Rows) -> None:
    """What the server no longer has cannot be downloaded; the row says why."""
    async with quick() as sandbox:
        await rows.enqueue(1)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=1)
            for task in sandbox._runner.tasks.values():
                task.status = "failed"
            await rows.db.execute("UPDATE omni_jobs SET links_wanted = true, error = 'HTTP 403'")
            await rows.until_counts(download_failed=1)
        ((error,),) = await rows.select("SELECT error FROM omni_jobs")
        assert "HTTP 403" in error


async def test_a_download_whose_task_is_gone_is_deferred_again(rows: Rows) -> None:
    """The engine's tables may be emptied at any time."""
    async with quick() as sandbox:
        await rows.enqueue(3)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=3)
            await rows.db.execute("TRUNCATE procrastinate_jobs CASCADE")
            await rows.db.execute("UPDATE omni_jobs SET changed_at = now() - interval '1 hour'")
            await rows.until("SELECT count(*)::int FROM procrastinate_jobs", 3)


async def test_an_acceptance_that_was_learned_late_is_followed(rows: Rows) -> None:
    """A past leader records a task of its own; the present one follows it to its end."""
    async with quick() as sandbox:
        await rows.enqueue(1)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=1)
        ((task_id,),) = await rows.select("SELECT task_id FROM omni_jobs")
        await rows.db.execute("UPDATE omni_jobs SET status = 'unknown', task_id = NULL")
        async with opened_fleet(rows.url) as past:
            found = await past.find("k0")
            assert isinstance(found, JobRecord)
            async with leading(rows, sandbox, "present"):
                await past.record_accepted(replace(found, status=JobStatus.RUNNING, task_id=task_id, accepted_at=5.0))
                await rows.until_counts(downloading=1)
        assert sandbox.record.submits == 1


async def test_chains_are_submitted_in_their_order(rows: Rows) -> None:
    """A job that extends another one is sent when that is finished, with its task; none is held in memory before."""
    async with quick() as sandbox, Fleet(rows.url) as fleet:
        request = VideoRequest(prompt="and then").to_json()
        records = [JobRecord(key="k0", request=VideoRequest(prompt="a fox").to_json())]
        records += [JobRecord(key=f"k{number}", parent=f"k{number - 1}", request=request) for number in (1, 2)]
        await fleet.enqueue(records)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=3)
        found = {record.key: record for record in map(from_row, await rows.select(SELECT))}
        assert found["k1"].parent_task_id == found["k0"].task_id
        assert found["k2"].parent_task_id == found["k1"].task_id


async def test_the_rest_of_a_broken_chain_fails(rows: Rows) -> None:
    """If the first fails on the server, those after it are not sent, and say why."""
    async with quick(fail_rate=1.0) as sandbox, Fleet(rows.url) as fleet:
        request = VideoRequest(prompt="and then").to_json()
        records = [JobRecord(key="k0", request=VideoRequest(prompt="a fox").to_json())]
        records += [JobRecord(key=f"k{number}", parent=f"k{number - 1}", request=request) for number in (1, 2)]
        await fleet.enqueue(records)
        async with leading(rows, sandbox):
            await rows.until_counts(failed=3)
        assert sandbox.record.submits == 1
        ((error,),) = await rows.select("SELECT error FROM omni_jobs WHERE key = 'k2'")
        assert "no result" in error


async def test_after_a_failover_nothing_is_submitted_until_it_is_confirmed(rows: Rows) -> None:
    """The leader says so in the account's row, and goes on when a person has looked."""
    async with quick() as sandbox, Fleet(rows.url) as fleet:
        async with leading(rows, sandbox):
            pass
        await rows.db.execute("CREATE OR REPLACE FUNCTION omni_timeline() RETURNS int LANGUAGE sql AS 'SELECT 9'")
        await rows.enqueue(3)
        async with leading(rows, sandbox):
            await rows.until("SELECT stopped LIKE '%--confirm-failover%' FROM omni_accounts")
            assert sandbox.record.submits == 0
            await fleet.confirm_failover()
            await rows.until_counts(downloading=3)


async def test_a_leader_that_is_fenced_competes_again(rows: Rows) -> None:
    """Another epoch ends its term and its client, and nothing else: it leads again when the lease is free."""
    async with quick() as sandbox:
        async with leading(rows, sandbox) as leader:
            await rows.enqueue(10)
            await rows.until("SELECT count(*) >= 2 FROM omni_jobs WHERE task_id IS NOT NULL")
            await rows.db.execute("UPDATE omni_accounts SET epoch = epoch + 1, holder = 'other', expires_at = now()")
            await rows.until("SELECT holder = 'w' AND epoch = 3 FROM omni_accounts")
            assert leader.is_leading
            await rows.until_counts(downloading=10)
        assert len(sandbox.record.tasks) == 10


async def test_missing_permission_is_said_and_waited_for(rows: Rows) -> None:
    """The tables are taken away and given back: the leader says so in between, and goes on."""
    async with quick() as sandbox, leading(rows, sandbox) as leader:
        await rows.db.execute("ALTER TABLE omni_jobs RENAME TO gone")
        async with asyncio.timeout(15):
            while "fleet init" not in leader.stopped:
                await asyncio.sleep(0.05)
        await rows.db.execute("ALTER TABLE gone RENAME TO omni_jobs")
        await rows.enqueue(5)
        await rows.until_counts(downloading=5)


async def test_higher_priorities_come_first(rows: Rows) -> None:
    """Jobs that are enqueued later with a higher priority overtake those that wait."""
    async with quick(max_in_flight=1) as sandbox, Fleet(rows.url) as fleet:
        await rows.enqueue(6)
        await fleet.enqueue({"urgent": VideoRequest(prompt="now")}, priority=5)
        async with leading(rows, sandbox):
            await rows.until("SELECT count(*) >= 1 FROM omni_jobs WHERE task_id IS NOT NULL")
        assert next(task.prompt for task in sandbox.record.tasks.values()) == "now"


async def test_sums_are_compacted_and_stay_true(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader replaces many small rows by one for each status."""
    monkeypatch.setattr("omni_async.fleet.sweeps._MAX_TOTALS_ROWS", 5)
    async with quick() as sandbox:
        await rows.enqueue(10)
        async with leading(rows, sandbox):
            await rows.until_counts(downloading=10)
            await rows.until("SELECT count(*) <= 5 FROM omni_totals")
        sums = "SELECT status, sum(jobs)::int FROM omni_totals GROUP BY status HAVING sum(jobs) <> 0"
        assert await rows.select(sums) == [("downloading", 10)]


async def test_a_successor_keeps_the_limits(rows: Rows) -> None:
    """The state of the limiter is written with the rows: the next leader knows the rate before its first submit."""
    async with quick(per_minute=480, burst=3, median=0.5) as sandbox, Fleet(rows.url) as fleet:
        await rows.enqueue(100)
        async with leading(rows, sandbox, "first") as leader:
            await rows.until("SELECT count(*) >= 60 FROM omni_jobs WHERE task_id IS NOT NULL", seconds=40)
            before = leader.statistics()
        await fleet.pause()
        # What a killed leader does not write: its limits are recorded every ten seconds, and when it ends.
        await rows.db.execute("DELETE FROM omni_facts WHERE name = 'limits'")
        submits = sandbox.record.submits
        async with leading(rows, sandbox, "second") as leader:
            await rows.until("SELECT coalesce(stopped LIKE '%paused%', false) FROM omni_accounts")
            after = leader.statistics()
        assert sandbox.record.submits == submits
    assert before is not None
    assert after is not None
    assert before.learned_submits_per_minute is not None
    assert after.learned_submits_per_minute == pytest.approx(before.learned_submits_per_minute, rel=0.3)


@pytest.mark.chaos
async def test_a_real_change_of_timeline_is_noticed_while_leading() -> None:
    """The database comes back as a promoted replica would: submits stop until a person confirms, and then go on."""
    with own_postgres() as server:
        name = server.create_database()
        await install(server.url(name))
        async with quick(per_minute=300) as sandbox:
            async with await Database(server.url(name)).connect("test") as db:
                rows = Rows(server.url(name), db)
                await rows.enqueue(40)
                async with leading(rows, sandbox):
                    await rows.until("SELECT count(*) >= 5 FROM omni_jobs WHERE task_id IS NOT NULL")
                    server.stop()
                    data = Path(server.folder) / "data"
                    (data / "recovery.signal").touch()
                    shutil.chown(data / "recovery.signal", *_owner_of(data))
                    with (data / "postgresql.conf").open("a") as file:
                        file.write("restore_command = '/bin/false'\n")
                    server.start()
                    async with await Database(server.url(name)).connect("test") as again:
                        rows = Rows(server.url(name), again)
                        await rows.until(
                            "SELECT coalesce(stopped LIKE '%--confirm-failover%', false) FROM omni_accounts"
                        )
                        submits = sandbox.record.submits
                        await asyncio.sleep(1.0)
                        assert sandbox.record.submits == submits < 40
                        async with Fleet(server.url(name)) as fleet:
                            await fleet.confirm_failover()
                        await rows.until_counts(downloading=40)
            assert len(sandbox.record.tasks) == 40


def _owner_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid
