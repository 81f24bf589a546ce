"""Workers of a fleet: alike, known to others by their rows, and ready to leave at any moment."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import LedgerError
from omni_async.downloads import mp4
from omni_async.fleet import Fleet
from omni_async.fleet.clips import clip_store
from omni_async.fleet.postgres.database import Database
from omni_async.fleet.worker import FleetWorker, Remaining
from omni_async.sandbox import Sandbox
from tests.support.fleet_clips import ACCOUNT, FleetRows
from tests.support.markers import long_run
from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, needs_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from omni_async import JobEvent
    from tests.support.s3_server import S3Server

pytestmark = needs_postgres
KEY = "sk-sandbox"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield an API that finishes tasks within a second."""
    async with Sandbox(median=0.5, seconds=3, prerendered=True) as sandbox:
        yield sandbox


def downloader(rows: FleetRows, folder: Path, **settings: Any) -> FleetWorker:
    """Return a worker that only downloads."""
    common: dict[str, Any] = {"store": folder / "clips", "spool": folder / "spool", "role": "download"}
    return FleetWorker(rows.url, **(common | settings))


def worker(url: str, sandbox: Sandbox, folder: Path, **settings: Any) -> FleetWorker:
    """Return a worker that does everything."""
    common: dict[str, Any] = {"store": folder / "clips", "spool": folder / "spool", "api_keys": {ACCOUNT: KEY}}
    common |= {"base_url": sandbox.base_url, "lease": 3.0}
    return FleetWorker(url, **(common | settings))


@asynccontextmanager
async def running(*workers: FleetWorker) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run workers while the block runs, then cancel them."""
    tasks = [asyncio.create_task(each.run()) for each in workers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Any, seconds: float = 15.0) -> None:
    """Wait until a function returns something true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def select(url: str, text: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    async with await Database(url).connect("test") as db:
        return await (await db.execute(text.encode())).fetchall()


# Settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"role": "leader"}, "role='leader'"),
        ({"store": None, "role": "download"}, "needs a store"),
        ({"store": None, "role": "all", "api_keys": {"a": "k"}}, "needs a store"),
        ({"role": "all"}, "needs an API key"),
        ({"role": "submit", "store": None, "api_keys": {}}, "needs an API key"),
        ({"lease": 0.5, "role": "download"}, "lease=0.5"),
        ({"lease": float("nan"), "role": "download"}, "lease=nan"),
        ({"store": "ftp://x/y", "role": "download"}, "s3://"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, Any], expected: str) -> None:
    """`ValueError` names what is wrong, before anything is connected."""
    with pytest.raises(ValueError, match=expected):
        FleetWorker("postgresql://nowhere/x", **{"store": "clips"} | settings)


def test_neither_key_nor_password_is_shown() -> None:
    """The repr of a worker, and of what it holds, is safe to print."""
    shown = FleetWorker("postgresql://u:hunter2@h/d", store="clips", api_keys={"a": "sk-secret-123456789"})
    assert "hunter2" not in repr(vars(shown))
    assert "hunter2" not in repr(shown)
    assert "sk-secret" not in repr(shown)


@pytest.mark.parametrize(
    ("remaining", "all_roles", "submit_role"),
    [
        (Remaining("running", stopped="", waiting=0, in_flight=0, downloading=0), False, False),
        (Remaining("running", stopped="", waiting=1, in_flight=0, downloading=0), True, True),
        (Remaining("running", stopped="", waiting=0, in_flight=1, downloading=0), True, True),
        (Remaining("running", stopped="", waiting=0, in_flight=0, downloading=1), True, False),
        (Remaining("running", stopped="no credit", waiting=9, in_flight=0, downloading=0), False, False),
        (Remaining("running", stopped="no credit", waiting=9, in_flight=1, downloading=0), True, True),
        (Remaining("draining", stopped="", waiting=9, in_flight=0, downloading=0), False, False),
        (Remaining("paused", stopped="", waiting=9, in_flight=0, downloading=0), True, True),
    ],
)
def test_what_counts_as_left(remaining: Remaining, all_roles: bool, submit_role: bool) -> None:
    """Jobs that wait count while somebody may submit them, those in progress always, downloads for who downloads."""
    assert remaining.has_work("all") is all_roles
    assert remaining.has_work("download") is all_roles
    assert remaining.has_work("submit") is submit_role


# A worker that only downloads


async def test_a_worker_that_only_downloads_needs_no_key(rows: FleetRows, tmp_path: Path) -> None:
    """It completes what is to be downloaded, tells its events, and ends when nothing is left if it is told to."""
    events: list[JobEvent] = []
    await rows.add("fox", "hen", "owl")
    one = downloader(rows, tmp_path, on_event=events.append)
    await asyncio.wait_for(one.run(until_done=True), 20)
    assert await rows.count("completed") == 3
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {"fox.mp4", "hen.mp4", "owl.mp4"}
    assert (one.statistics().fetched, one.statistics().fetching, one.statistics().leads) == (3, 0, ())
    assert {event.key for event in events if event.status == "completed"} == {"fox", "hen", "owl"}
    assert list((tmp_path / "spool").iterdir()) == []
    await rows.add("bee")
    await asyncio.wait_for(one.run(until_done=True), 20)  # a worker may be run again
    assert await rows.count("completed") == 4


@pytest.mark.slow
async def test_others_see_what_a_worker_does(rows: FleetRows, tmp_path: Path) -> None:
    """While it runs it has a row, which says who and where it is; afterwards it has none. The store's place is said."""
    rows.host.seconds = 30.0
    await rows.add("fox")
    columns = "worker, host, pid, role, leads, seen_at > now() - interval '5 s'"
    async with running(downloader(rows, tmp_path, name="one")):
        async with asyncio.timeout(15):
            while not (found := await rows.execute(f"SELECT {columns} FROM omni_workers WHERE fetching = 1")):
                await asyncio.sleep(0.1)
        assert found[0] == ("one", os.uname().nodename, os.getpid(), "download", [], True)
        facts = await rows.execute("SELECT value FROM omni_facts WHERE name = 'output_dir'")
        assert facts == [(f'"{tmp_path / "clips"}"',)]
    assert await rows.execute("SELECT * FROM omni_workers") == []
    assert await rows.tasks() == ["todo"]


@pytest.mark.slow
async def test_clips_may_be_kept_in_an_object_store(
    rows: FleetRows, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job is completed with a whole object; the place that readers are told is the URL."""
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3_server.bucket}/fleet"
    await rows.add("fox", "hen")
    await asyncio.wait_for(downloader(rows, tmp_path, store=url).run(until_done=True), 30)
    assert await rows.count("completed") == 2
    store = clip_store(url)
    for key in ("fox", "hen"):
        assert await store.destination.copy_to(f"{key}.mp4", tmp_path / key)
        assert (tmp_path / key).read_bytes() == rows.host.clip(key)
    assert await rows.execute("SELECT value FROM omni_facts WHERE name = 'output_dir'") == [(f'"{url}"',)]


@pytest.mark.slow
@needs_pgbouncer
async def test_a_worker_works_behind_pgbouncer(
    rows: FleetRows, postgres: PostgresServer, sandbox: Sandbox, tmp_path: Path
) -> None:
    """In transaction mode, without a direct connection: it leads, submits and downloads, and hands over."""
    async with Fleet(rows.url, store=tmp_path / "clips") as fleet:
        await fleet.enqueue([f"clip {number}" for number in range(10)])
    await rows.execute("UPDATE omni_accounts SET server = NULL")
    with pgbouncer(postgres) as port:
        url = f"postgresql://omni@127.0.0.1:{port}/{rows.url.rpartition('/')[2]}"
        await asyncio.wait_for(worker(url, sandbox, tmp_path).run(until_done=True), 60)
    assert await rows.count("completed") == 10
    assert len(sandbox.record.tasks) == 10
    assert await rows.execute("SELECT 1 FROM omni_accounts WHERE expires_at > now()") == []


# Clear ends


async def test_no_database_is_said_at_once(tmp_path: Path) -> None:
    """The error names the database, without its password, and what to do."""
    url = f"postgresql://omni:hunter2@127.0.0.1:{free_port()}/x"
    with pytest.raises(LedgerError, match="Is it running") as caught:
        await FleetWorker(url, store=tmp_path, role="download").run()
    assert "hunter2" not in str(caught.value)


async def test_a_database_without_tables_is_said_at_once(postgres_url: str, tmp_path: Path) -> None:
    """The error names the command that makes them."""
    with pytest.raises(LedgerError, match="fleet init"):
        await FleetWorker(postgres_url, store=tmp_path, role="download").run()


@pytest.mark.slow
async def test_tables_of_another_version_end_a_worker(rows: FleetRows, tmp_path: Path) -> None:
    """Neither begins one, and one that runs ends soon after somebody has updated them."""
    running_one = asyncio.create_task(downloader(rows, tmp_path).run())
    await asyncio.sleep(1.5)
    assert not running_one.done()
    await rows.execute("UPDATE omni_schema SET version = version + 1")
    with pytest.raises(LedgerError, match="version"):
        await downloader(rows, tmp_path).run()
    with pytest.raises(LedgerError, match="version"):
        await asyncio.wait_for(running_one, 20)
    assert await rows.execute("SELECT * FROM omni_workers") == []


async def test_a_store_that_cannot_be_used_is_said_at_once(rows: FleetRows, tmp_path: Path) -> None:
    """A worker that could store nothing takes no task."""
    (tmp_path / "file").write_bytes(b"")
    await rows.add("fox")
    with pytest.raises(OSError, match="file"):
        await downloader(rows, tmp_path, store=tmp_path / "file").run()
    assert await rows.tasks() == ["todo"]


@pytest.mark.slow
async def test_a_worker_with_another_key_ends_and_says_so(fleet_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Two workers with different keys for one account: the second one is refused, the first one goes on."""
    first = worker(fleet_url, sandbox, tmp_path)
    async with running(first) as tasks:
        await until(lambda: first.leads)
        other = worker(fleet_url, sandbox, tmp_path, api_keys={ACCOUNT: "sk-another-key-0123456789"})
        with pytest.raises(LedgerError, match="another API key"):
            await asyncio.wait_for(other.run(), 20)
        assert first.leads == (ACCOUNT,)
        assert not tasks[0].done()


# Leading


@pytest.mark.slow
async def test_three_workers_make_all_clips(fleet_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """One leads, all download; each prompt is one task and one whole clip, and they end when nothing is left."""
    async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
        await fleet.enqueue([f"clip {number}" for number in range(60)])
    workers = [worker(fleet_url, sandbox, tmp_path) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*(each.run(until_done=True) for each in workers)), 60)
    clips = list((tmp_path / "clips").glob("*.mp4"))
    assert len(clips) == 60
    assert all(mp4.find_defect_in(clip.read_bytes()) is None for clip in clips)
    assert len(sandbox.record.tasks) == 60
    assert sum(each.statistics().fetched for each in workers) == 60
    assert min(each.statistics().fetched for each in workers) > 0
    assert await select(fleet_url, "SELECT status, count(*) FROM omni_jobs GROUP BY 1") == [("completed", 60)]


@pytest.mark.slow
async def test_links_that_have_expired_are_renewed_by_the_leader(fleet_url: str, tmp_path: Path) -> None:
    """A worker that begins to download late finds its links refused; the leader gives fresh ones, and all complete."""
    async with Sandbox(median=0.3, seconds=3, prerendered=True, link_lifetime=4.0) as sandbox:
        async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
            await fleet.enqueue([f"clip {number}" for number in range(8)])
        leader = worker(fleet_url, sandbox, tmp_path, role="submit")
        async with running(leader):
            async with asyncio.timeout(20):
                while (await select(fleet_url, "SELECT count(*) FROM omni_jobs WHERE status = 'downloading'"))[0][
                    0
                ] < 8:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(4.5)
            late = worker(fleet_url, sandbox, tmp_path, role="download", api_keys=None)
            await asyncio.wait_for(late.run(until_done=True), 60)
    assert late.statistics().fetched == 8
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 8
    assert await select(fleet_url, "SELECT DISTINCT links_wanted, error FROM omni_jobs") == [(False, "")]


@pytest.mark.slow
async def test_a_leader_that_ends_hands_over_at_once(fleet_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """With a lease of 30 seconds, another worker leads within three once the leader is cancelled."""
    first, second = (worker(fleet_url, sandbox, tmp_path, lease=30.0) for _ in range(2))
    async with running(first) as tasks:
        await until(lambda: first.leads)
        async with running(second):
            await asyncio.sleep(0.5)
            assert not second.leads
            since = time.monotonic()
            tasks[0].cancel()
            await until(lambda: second.leads, 15)
            assert time.monotonic() - since < 30 / 4 + 1


@pytest.mark.slow
async def test_several_accounts_spread_over_the_workers(fleet_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Of three workers with three keys, each leads an account, and the jobs of all accounts are done."""
    keys = {f"account-{number}": f"sk-key-number-{number}-0123456789" for number in range(3)}
    sandbox_keys = sandbox.settings.api_key
    assert sandbox_keys is None  # any key will do
    for account in keys:
        async with Fleet(fleet_url, store=tmp_path / "clips", account=account) as fleet:
            await fleet.enqueue([f"{account} clip {number}" for number in range(5)])
    workers = [worker(fleet_url, sandbox, tmp_path, api_keys=keys) for _ in range(3)]
    async with running(*workers):
        await until(lambda: sum(len(each.leads) for each in workers) == 3, 20)
        assert [len(each.leads) for each in workers] == [1, 1, 1]
        async with asyncio.timeout(40):
            while (await select(fleet_url, "SELECT count(*) FROM omni_jobs WHERE status = 'completed'"))[0][0] < 15:
                await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_without_credit_the_rest_waits_and_the_reason_is_said(fleet_url: str, tmp_path: Path) -> None:
    """What was accepted is downloaded, then a worker that ends when nothing is left ends, and names the reason."""
    async with Sandbox(median=0.5, seconds=3, prerendered=True, credits=100.0) as sandbox:
        async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
            await fleet.enqueue([f"clip {number}" for number in range(40)])
        one = worker(fleet_url, sandbox, tmp_path)
        await asyncio.wait_for(one.run(until_done=True), 40)
        found = dict(await select(fleet_url, "SELECT status, count(*) FROM omni_jobs GROUP BY 1"))
        assert set(found) == {"waiting", "completed"}
        assert len(list((tmp_path / "clips").glob("*.mp4"))) == found["completed"] > 0
        assert "insufficient" in one.stop_errors[ACCOUNT] or "credit" in one.stop_errors[ACCOUNT]


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["NaN", "-1", "Infinity"])
async def test_a_cost_limit_that_is_no_amount_makes_no_room(
    fleet_url: str, sandbox: Sandbox, tmp_path: Path, limit: str
) -> None:
    """Nothing is submitted while it is in the row, every worker stays, and a correct one is followed."""
    async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
        await fleet.enqueue([f"clip {number}" for number in range(3)])
        await select(fleet_url, f"UPDATE omni_accounts SET max_cost = '{limit}' RETURNING 1")
        async with running(worker(fleet_url, sandbox, tmp_path)) as tasks:
            async with asyncio.timeout(15):
                while not await select(fleet_url, "SELECT 1 FROM omni_accounts WHERE stopped LIKE '%cost limit%'"):
                    await asyncio.sleep(0.1)
            assert not tasks[0].done()
            assert len(sandbox.record.tasks) == 0
            await fleet.resume(max_cost=100.0)
            await until(lambda: len(sandbox.record.tasks) == 3)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 0.8, *map(long_run, (0.0, 0.05, 0.2, 0.5, 1.2, 2.0))])
async def test_a_worker_may_be_cancelled_at_any_moment(
    fleet_url: str, sandbox: Sandbox, tmp_path: Path, seconds: float
) -> None:
    """In somebody's own loop: it ends within seconds, leaves nothing behind, and another one finishes its work."""
    async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
        await fleet.enqueue([f"clip {number}" for number in range(20)])
    before = asyncio.all_tasks()
    task = asyncio.create_task(worker(fleet_url, sandbox, tmp_path).run())
    await asyncio.sleep(seconds)
    since = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - since < 8
    await asyncio.sleep(0.05)
    assert [each.get_name() for each in asyncio.all_tasks() - before if "omni" in each.get_name()] == []
    assert await select(fleet_url, "SELECT * FROM omni_workers") == []
    assert await select(fleet_url, "SELECT 1 FROM omni_accounts WHERE expires_at > now()") == []
    assert not list((tmp_path / "spool").glob("*"))
    await asyncio.wait_for(worker(fleet_url, sandbox, tmp_path).run(until_done=True), 60)
    assert await select(fleet_url, "SELECT status, count(*) FROM omni_jobs GROUP BY 1") == [("completed", 20)]
    assert len(sandbox.record.tasks) == 20
