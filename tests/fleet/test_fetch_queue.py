"""Tasks of the queue: deferred with the row, done by any worker, given back, lost and found again."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import procrastinate
import pytest

from omni_async.fleet.clips import clip_store
from omni_async.fleet.fetch_queue import FetchQueue, register, retry_seconds
from omni_async.fleet.fetcher import Fetcher
from omni_async.fleet.postgres.rows import DEFER, LOST, QUEUE
from tests.support import fetch_worker
from tests.support.fleet_clips import ACCOUNT, FleetRows, fleet_rows
from tests.support.markers import long_run
from tests.support.postgres import needs_postgres, own_postgres
from tests.support.tcp_proxy import proxy_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from subprocess import Popen

pytestmark = needs_postgres


@asynccontextmanager
async def working(rows: FleetRows, folder: Path, *names: str, **settings: Any) -> AsyncIterator[None]:
    """Run workers in this process while the block runs, and a sweep as the leader's."""
    url = rows.url
    async with asyncio.TaskGroup() as group:
        jobs = [fetch_worker.work(url, folder / "clips", folder / name, name, **settings) for name in names]
        tasks = [group.create_task(job) for job in (fetch_worker.sweep(url), *jobs)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def downloading(rows: FleetRows, folder: Path, name: str, *keys: str) -> AsyncIterator[Popen[bytes]]:
    """Run a worker process that downloads four of these jobs when the block begins. It is killed at the end."""
    await rows.add(*keys)
    process = fetch_worker.start(rows.url, folder / "clips", folder / "spool", name)
    try:
        await rows.host.wait_for_transfers(4)
        yield process
    finally:
        process.kill()
        process.wait()


async def start_downloading(rows: FleetRows, folder: Path, *keys: str, url: str = "") -> asyncio.Task[None]:
    """Return a worker in this process that downloads four of these jobs, with the database at `url`."""
    await rows.add(*keys)
    worker = asyncio.create_task(fetch_worker.work(url or rows.url, folder / "clips", folder / "spool", "one"))
    await rows.host.wait_for_transfers(4)
    return worker


def assert_whole(rows: FleetRows, folder: Path, keys: list[str]) -> None:
    """Check that the store holds the clip of each job, and nothing else."""
    assert sorted(path.name for path in (folder / "clips").iterdir()) == sorted(f"{key}.mp4" for key in keys)
    for key in keys:
        assert (folder / "clips" / f"{key}.mp4").read_bytes() == rows.host.clip(key)


# Deferring


async def test_a_task_is_there_if_the_row_is(rows: FleetRows) -> None:
    """Both come with one commit, for several jobs in one statement; a rollback leaves neither."""
    connection = await rows.database.connect("another")
    with suppress(RuntimeError):
        async with connection.transaction():
            await connection.execute(DEFER, (ACCOUNT, ["x", "y"]))
            raise RuntimeError
    assert await rows.tasks() == []
    await rows.add("fox", "h\"e'n", "日本")
    assert await rows.tasks() == ["todo"] * 3
    found = await rows.execute(
        "SELECT args->>'key', args->>'account', queue_name, lock, queueing_lock FROM procrastinate_jobs"
    )
    assert found == [(key, ACCOUNT, QUEUE, None, None) for key in ("fox", "h\"e'n", "日本")]
    await connection.close()


async def test_a_job_without_a_task_is_found(rows: FleetRows) -> None:
    """Only a `downloading` row counts that has neither a task nor wants links, and that is not quite new."""
    await rows.add("has-task")
    await rows.add("lost", "wants-links", "ended", defer=False)
    await rows.execute("UPDATE omni_jobs SET links_wanted = true WHERE key = 'wants-links'")
    await rows.execute("UPDATE omni_jobs SET status = 'completed' WHERE key = 'ended'")
    for seconds, expected in ((60, []), (-1, ["lost"])):
        assert [row[0] for row in await rows.execute(LOST, ACCOUNT, seconds)] == expected
    await rows.execute("TRUNCATE procrastinate_jobs CASCADE")
    assert {row[0] for row in await rows.execute(LOST, ACCOUNT, -1)} == {"has-task", "lost"}


def test_a_task_that_is_given_back_does_not_wait() -> None:
    """Others take it at once; one that has failed waits longer each time, up to five minutes."""
    assert retry_seconds(asyncio.CancelledError(), 7) == 0
    assert [retry_seconds(OSError(), attempts) for attempts in (0, 1, 2, 3, 10, 10_000)] == [5, 10, 20, 40, 300, 300]


# Doing


@pytest.mark.slow
async def test_two_workers_share_the_tasks(rows: FleetRows, tmp_path: Path) -> None:
    """Each clip is downloaded once, both workers take part, and no task is left in the queue."""
    keys = [f"job-{number}" for number in range(30)]
    rows.host.seconds = 0.2
    await rows.add(*keys)
    async with working(rows, tmp_path, "one", "two"):
        await rows.wait_for("completed", 30)
        async with asyncio.timeout(20):
            while await rows.tasks():
                await asyncio.sleep(0.05)
    assert set(rows.host.requests.values()) == {1}
    assert_whole(rows, tmp_path, keys)
    by = dict(await rows.execute("SELECT fetched_by, count(*) FROM omni_jobs GROUP BY 1"))
    assert set(by) == {"one", "two"}
    assert (await rows.execute("SELECT count(*) FROM procrastinate_workers"))[0][0] == 0


@pytest.mark.slow
async def test_the_tasks_of_a_killed_worker_go_to_others(rows: FleetRows, tmp_path: Path) -> None:
    """SIGKILL in the middle of its downloads: after the heartbeat's end another worker does them, each clip whole."""
    keys = [f"job-{number}" for number in range(4)]
    rows.host.seconds = 3.0
    async with downloading(rows, tmp_path, "killed", *keys):
        pass
    since = time.monotonic()
    rows.host.seconds = 0.0
    async with working(rows, tmp_path, "other"):
        await rows.wait_for("completed", 4)
    assert time.monotonic() - since < fetch_worker.HEARTBEAT + 4
    assert_whole(rows, tmp_path, keys)
    assert {(await rows.job(key))["fetched_by"] for key in keys} == {"other"}


@pytest.mark.slow
async def test_a_suspended_worker_goes_on_when_it_wakes_up(rows: FleetRows, tmp_path: Path) -> None:
    """Stopped for longer than the heartbeat, and forgotten by the engine: others do its tasks, it takes new ones."""
    keys = [f"job-{number}" for number in range(4)]
    rows.host.seconds = 2.0
    async with downloading(rows, tmp_path, "suspended", *keys) as process:
        process.send_signal(signal.SIGSTOP)
        async with working(rows, tmp_path, "other"):
            await rows.wait_for("completed", 4)
        await rows.execute("DELETE FROM procrastinate_workers")  # as a worker that starts does with those gone silent
        process.send_signal(signal.SIGCONT)
        await rows.add("late-1", "late-2")
        await rows.wait_for("completed", 6)
        assert (await rows.job("late-1"))["fetched_by"] == "suspended"
        assert {(await rows.job(key))["fetched_by"] for key in keys} == {"other"}
    assert_whole(rows, tmp_path, [*keys, "late-1", "late-2"])


@pytest.mark.slow
async def test_a_worker_that_ends_gives_its_tasks_back_at_once(rows: FleetRows, tmp_path: Path) -> None:
    """Ctrl-C in the middle of downloads: within a second or two they wait for others, and nothing is left of it."""
    keys = [f"job-{number}" for number in range(6)]
    rows.host.seconds = 20.0
    async with downloading(rows, tmp_path, "leaving", *keys) as process:
        since = time.monotonic()
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait)
    assert time.monotonic() - since < 3
    assert await rows.tasks() == ["todo"] * 6
    assert (await rows.execute("SELECT count(*) FROM procrastinate_workers"))[0][0] == 0
    assert list((tmp_path / "spool").iterdir()) == []
    rows.host.seconds = 0.0
    async with working(rows, tmp_path, "other"):
        await rows.wait_for("completed", 6, seconds=10)
    assert_whole(rows, tmp_path, keys)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.2, 0.4, *map(long_run, (0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.6))])
async def test_a_worker_may_be_cancelled_at_any_moment(rows: FleetRows, tmp_path: Path, seconds: float) -> None:
    """Inside somebody's own loop: it ends soon, leaves no asyncio task behind, and no task of the queue is lost."""
    keys = [f"job-{number}" for number in range(5)]
    rows.host.seconds = 0.2
    await rows.add(*keys)
    before = asyncio.all_tasks()
    url = rows.url
    worker = asyncio.create_task(fetch_worker.work(url, tmp_path / "clips", tmp_path / "spool", "one"))
    await asyncio.sleep(seconds)
    since = time.monotonic()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert time.monotonic() - since < 5
    assert {
        task for task in asyncio.all_tasks() - before if "omni" in task.get_name() or "job" in task.get_name()
    } == set()
    assert set(await rows.tasks()) <= {"todo"}
    # A task of a job that is completed may be left, and does nothing.
    assert await rows.execute(LOST, ACCOUNT, -1) == []
    async with working(rows, tmp_path, "other"):
        await rows.wait_for("completed", 5, seconds=10)
    assert_whole(rows, tmp_path, keys)


@pytest.mark.slow
async def test_emptied_tables_of_the_engine_lose_nothing(rows: FleetRows, tmp_path: Path) -> None:
    """With its tables truncated under running workers, these start again, and the sweep defers what has no task."""
    keys = [f"job-{number}" for number in range(20)]
    rows.host.seconds = 0.5
    await rows.add(*keys)
    async with working(rows, tmp_path, "one", "two"):
        await rows.wait_for("completed", 3)
        await rows.execute("TRUNCATE procrastinate_jobs, procrastinate_workers, procrastinate_events CASCADE")
        await asyncio.sleep(1.5)  # a task may have been taken when the table was emptied
        lost = [row[0] for row in await rows.execute(LOST, ACCOUNT, 0)]
        await rows.execute(DEFER, ACCOUNT, lost)
        await rows.wait_for("completed", 20)
    assert lost
    assert_whole(rows, tmp_path, keys)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "away"), [("immediate", 0.0), long_run("immediate", 8.0), long_run("fast", 3.0)])
async def test_postgres_may_be_restarted_under_a_worker(tmp_path: Path, mode: str, away: float) -> None:
    """Downloads go on meanwhile; what was finished while the database was away is recorded when it is back."""
    keys = [f"job-{number}" for number in range(16)]
    with own_postgres() as server:
        async with fleet_rows(server.url(server.create_database())) as rows:
            rows.host.seconds = 1.0
            await rows.add(*keys)
            async with working(rows, tmp_path, "one", "two"):
                await rows.wait_for("completed", 1)
                await rows.aclose()
                await asyncio.to_thread(server.stop, mode)
                await asyncio.sleep(away)
                await asyncio.to_thread(server.start)
                await rows.open()
                await rows.wait_for("completed", 16)
                # Heartbeats go on after the outage: these workers are not taken for dead.
                last = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > %s"
                (now,) = (await rows.execute("SELECT now()"))[0]
                async with asyncio.timeout(20):
                    while (await rows.execute(last, now))[0][0] < 2:
                        await asyncio.sleep(0.1)
            assert_whole(rows, tmp_path, keys)
            assert sum(rows.host.requests.values()) <= 2 * 16  # those in progress may have been given to others


@pytest.mark.slow
async def test_a_worker_without_a_database_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Cancelled while Postgres is away, it ends within seconds; the heartbeat gives its tasks to others later."""
    with own_postgres() as server:
        async with fleet_rows(server.url(server.create_database())) as rows:
            rows.host.seconds = 30.0
            worker = await start_downloading(rows, tmp_path, *(f"job-{number}" for number in range(6)))
            await rows.aclose()
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.sleep(1)
            since = time.monotonic()
            worker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await worker
            assert time.monotonic() - since < 15
            await asyncio.to_thread(server.start)
            await rows.open()
            rows.host.seconds = 0.0
            async with working(rows, tmp_path, "other"):
                await rows.wait_for("completed", 6, seconds=20)


@pytest.mark.slow
@pytest.mark.chaos
async def test_a_cable_that_swallows_everything_is_given_up(rows: FleetRows, tmp_path: Path) -> None:
    """Connections that stay open and never answer are replaced: after half a minute of that, every job is completed."""
    keys = [f"job-{number}" for number in range(12)]
    rows.host.seconds = 1.0
    await rows.add(*keys)
    async with proxy_before(rows.url) as (proxy, url):
        worker = asyncio.create_task(fetch_worker.work(url, tmp_path / "clips", tmp_path / "spool", "one"))
        await rows.wait_for("completed", 2)
        proxy.black_hole()
        await asyncio.sleep(25)
        proxy.heal()
        await rows.wait_for("completed", 12, seconds=40)
        assert not worker.done()
        worker.cancel()
        await asyncio.wait({worker})
    assert_whole(rows, tmp_path, keys)


@pytest.mark.slow
@pytest.mark.chaos
async def test_a_worker_that_is_cut_off_ends_when_it_is_told_to(rows: FleetRows, tmp_path: Path) -> None:
    """Although its database never answers, it is gone within seconds, and nothing is left of it."""
    rows.host.seconds = 30.0
    keys = [f"job-{number}" for number in range(4)]
    async with proxy_before(rows.url) as (proxy, url):
        worker = await start_downloading(rows, tmp_path, *keys, url=url)
        proxy.black_hole()
        await asyncio.sleep(3)
        since = time.monotonic()
        worker.cancel()
        await asyncio.wait({worker}, timeout=60)
        assert worker.done()
        assert time.monotonic() - since < 20
        proxy.heal()


@pytest.mark.slow
async def test_a_full_store_is_tried_again_by_the_queue(
    rows: FleetRows, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task waits in the queue with the error, and completes the job when there is room again."""
    monkeypatch.setattr("omni_async.fleet.fetch_queue._FIRST_RETRY", 1)
    monkeypatch.setattr("omni_async.fleet.storage_pause.FIRST_PAUSE", 1.0)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(8 * 1024**2 - 16 * 1024))
    await rows.add("fox")
    async with Fetcher(
        rows.database, clip_store(small_disk, tmp_path / "spool", give_up_after=0), worker="one"
    ) as fetcher:
        queue = FetchQueue(fetcher.pool)
        task = asyncio.create_task(queue.run(fetcher, concurrency=2, heartbeat=fetch_worker.HEARTBEAT))
        try:
            async with asyncio.timeout(10):
                while (await rows.execute("SELECT max(attempts) FROM procrastinate_jobs"))[0][0] < 2:
                    await asyncio.sleep(0.05)
            assert (await rows.job("fox"))["status"] == "downloading"
            filler.unlink()
            await rows.wait_for("completed", 1, seconds=10)
        finally:
            task.cancel()
            await asyncio.wait({task})


# An application that has its own procrastinate


@pytest.mark.slow
async def test_an_application_may_register_the_task_in_its_own_app(rows: FleetRows, tmp_path: Path) -> None:
    """Its own tasks and the downloads are done by one worker of its own, with the engine's usual settings."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=rows.url))
    done: list[str] = []

    @app.task(name="mail.send")
    async def send(to: str) -> None:
        done.append(to)

    await rows.add("fox", "hen")
    fetcher = Fetcher(rows.database, clip_store(tmp_path / "clips", tmp_path / "spool"), worker="app")
    register(app, fetcher)
    async with app.open_async(), fetcher:
        await send.defer_async(to="someone")
        await app.run_worker_async(wait=False, concurrency=3, install_signal_handlers=False)
    assert done == ["someone"]
    assert await rows.count("completed") == 2
    assert_whole(rows, tmp_path, ["fox", "hen"])
