"""Programs wait for the jobs of a fleet, read its state and steer it, whatever happens to the database meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import (
    ClientClosed,
    DownloadError,
    JobCancelled,
    JobError,
    JobFailed,
    JobStatus,
    JobTimedOut,
    LedgerError,
    LedgerReader,
    OmniError,
    SubmitOutcomeUnknown,
    gallery,
)
from omni_async.fleet import Fleet, FleetReader, FleetWorker, install
from omni_async.testing import SandboxThread
from omni_async.testing.fake_clips import mp4
from tests.support.fleet_rows import complete, end, execute, set_output_dir
from tests.support.postgres import needs_postgres, own_postgres

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

pytestmark = needs_postgres


async def test_a_fleet_is_opened_and_closed_without_a_block(fleet_url: str) -> None:
    """As a client: a web service or a notebook opens it, closes it as often as it likes, and may open it again."""
    fleet = Fleet(fleet_url)
    await fleet.aclose()
    for _ in range(2):
        assert await fleet.open() is fleet
        with pytest.raises(RuntimeError, match="open already"):
            await fleet.open()
        await fleet.enqueue({"fox": "a fox"})
        waiter = asyncio.create_task(fleet.job("fox").wait())
        await asyncio.sleep(0.2)
        await fleet.aclose()
        await fleet.aclose()
        with pytest.raises(ClientClosed, match="it continues elsewhere"):
            await waiter
        with pytest.raises(ClientClosed, match=r"await fleet\.open"):
            await fleet.find("fox")


async def test_a_job_is_awaited_for_its_clip(fleet_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of waiters get its path as soon as the database says so, and later ones at once."""
    monkeypatch.setattr("omni_async.fleet.postgres.watcher._INTERVAL", 3600.0)  # only notifications lead to a look
    await set_output_dir_of_new_account(fleet_url)
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        job = fleet.job("fox")
        async with asyncio.TaskGroup() as group:
            waiters = [group.create_task(_await(job)), group.create_task(_await(fleet.job("fox")))]
            cancelled = group.create_task(_await(job))
            await asyncio.sleep(0.3)
            cancelled.cancel()
            await complete(fleet_url, "fox", "fox.mp4", "fox-2.mp4")
            with anyio.fail_after(20):
                assert [await waiter for waiter in waiters] == [Path("/mnt/clips/fox.mp4")] * 2
        assert job.paths == (Path("/mnt/clips/fox.mp4"), Path("/mnt/clips/fox-2.mp4"))
        assert (job.status, job.cost) == (JobStatus.COMPLETED, 1.0)
        assert await job == Path("/mnt/clips/fox.mp4")


async def set_output_dir_of_new_account(url: str, place: str = "/mnt/clips") -> None:
    """Write where the clips are, before there is a job."""
    await execute(url, "INSERT INTO omni_accounts (account) VALUES ('default') ON CONFLICT DO NOTHING")
    await set_output_dir(url, place)


async def _await(job: Any) -> Any:
    return await job


@pytest.mark.parametrize(
    ("status", "task_id", "error"),
    [
        ("failed", "task-1", JobFailed),
        ("unknown", None, SubmitOutcomeUnknown),
        ("cancelled", None, JobCancelled),
        ("timed_out", "task-1", JobTimedOut),
        ("download_failed", "task-1", DownloadError),
    ],
)
async def test_a_job_without_a_clip_raises_its_error(
    fleet_url: str, status: str, task_id: str | None, error: type[OmniError]
) -> None:
    """The class says what can be done about it, the text is the recorded one."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        await end(fleet_url, "fox", status, "job 'fox': the server said no", task_id)
        with pytest.raises(error, match="the server said no"):
            await fleet.job("fox")
        with pytest.raises(JobError, match="no job 'hare'"):
            await fleet.job("hare")


async def test_clips_in_an_object_store_are_urls(fleet_url: str) -> None:
    """What a job is awaited for is then its URL."""
    pytest.importorskip("obstore")
    await set_output_dir_of_new_account(fleet_url, "s3://bucket/prefix")
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        await complete(fleet_url, "fox", "fox.mp4")
        assert await fleet.job("fox") == "s3://bucket/prefix/fox.mp4"


@pytest.mark.slow
async def test_jobs_are_yielded_as_they_end(fleet_url: str) -> None:
    """`as_completed` yields each job once, failed ones too, and never has more than `max_pending` unfinished ones."""
    most = 0

    async def work() -> None:
        nonlocal most
        while True:
            rows = await execute(fleet_url, "SELECT key FROM omni_jobs WHERE status = 'waiting' ORDER BY id DESC")
            most = max(most, len(rows))
            for (key,) in rows[:4]:
                if key.endswith("7"):
                    await end(fleet_url, key, "failed", "bad", "task")
                else:
                    await complete(fleet_url, key, f"{key}.mp4")
            await asyncio.sleep(0.05)

    async with Fleet(fleet_url, store="/mnt/clips") as fleet:
        worker = asyncio.create_task(work())
        found: dict[str, Path | str | None] = {}
        requests = {f"job-{number}": f"prompt {number}" for number in range(30)}
        with anyio.fail_after(30):
            async for job in fleet.as_completed(requests, max_pending=8):
                assert job.key not in found
                with suppress(JobFailed):
                    found[job.key] = None
                    found[job.key] = await job
        worker.cancel()
    assert most == 8
    assert {key: Path(path).name if path else None for key, path in found.items()} == {
        key: None if key.endswith("7") else f"{key}.mp4" for key in requests
    }


async def test_closing_wakes_everyone_who_waits(fleet_url: str) -> None:
    """A waiter gets `ClientClosed`, and nothing is left running; a closed fleet says so."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        waiter = asyncio.ensure_future(_await(fleet.job("fox")))
        await asyncio.sleep(0.2)
    with pytest.raises(ClientClosed, match="continues elsewhere"):
        await waiter
    with pytest.raises(ClientClosed, match="not open"):
        await fleet.enqueue(["another"])
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("omni_async")] == []


@pytest.mark.slow
async def test_an_outage_of_the_database_is_waited_out() -> None:
    """Who waits for a job goes on waiting over a restart of Postgres; a call meanwhile raises `LedgerError`."""
    with own_postgres() as server:
        await install(server.url())
        await set_output_dir_of_new_account(server.url())
        async with Fleet(server.url()) as fleet:
            await fleet.enqueue({"fox": "a fox"})
            waiter = asyncio.ensure_future(_await(fleet.job("fox")))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.sleep(3)
            with pytest.raises(LedgerError) as caught:
                await fleet.statistics()
            assert not caught.value.permanent
            await asyncio.to_thread(server.start)
            await complete(server.url(), "fox", "fox.mp4")
            with anyio.fail_after(15):
                assert await waiter == Path("/mnt/clips/fox.mp4")
            assert (await fleet.statistics()).totals.jobs == 1


async def test_what_is_wrong_with_the_database_is_said_at_once(postgres: PostgresServer, postgres_url: str) -> None:
    """No tables, no server, no database, a bad URL: one line that says what to do, and no password."""
    cases = [
        (postgres_url, True, "run `omni-async fleet init`"),
        (postgres.url("nothing"), True, "no such database"),
        ("postgresql://me:secret@127.0.0.1:1/x", False, "Is it running"),
        ("postgresql://me@127.0.0.1:99999/x", None, ""),
        ("mysql://me:secret@host/x", None, "cannot be read"),
    ]
    for url, is_permanent, text in cases:
        with pytest.raises((LedgerError, ValueError)) as caught:
            async with Fleet(url):
                pass
        assert text in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        if is_permanent is not None:
            assert isinstance(caught.value, LedgerError)
            assert caught.value.permanent is is_permanent, url
    with pytest.raises(LedgerError), FleetReader(postgres.url("nothing")):
        pass


async def test_retried_jobs_are_new_ones_that_remember_the_old(fleet_url: str) -> None:
    """A new idempotency key, the task and the cost of before; a cancelled job that was accepted is followed again."""
    async with Fleet(fleet_url) as fleet:
        names = ["failed", "unknown", "cancelled", "followed", "completed", "waiting"]
        await fleet.enqueue(dict.fromkeys(names, "a fox"))
        before = {name: await fleet.find(name) for name in names}
        await end(fleet_url, "failed", "failed", "no", "task-1")
        await end(fleet_url, "unknown", "unknown", "who knows")
        await end(fleet_url, "cancelled", "cancelled")
        await end(fleet_url, "followed", "cancelled", "", "task-2")
        await complete(fleet_url, "completed", "x.mp4")
        await execute(fleet_url, "UPDATE omni_jobs SET cost = 0.75, previous_cost = 0.25 WHERE key = 'failed'")
        assert await fleet.retry(unknown=True) == 1
        assert await fleet.retry(failed=True) == 3
        assert await fleet.retry(failed=True, unknown=True) == 0
        after = {name: await fleet.find(name) for name in names}
    states = {name: record.status for name, record in after.items() if record}
    assert states == dict.fromkeys(names, JobStatus.WAITING) | {
        "followed": JobStatus.RUNNING,
        "completed": JobStatus.COMPLETED,
    }
    failed = after["failed"]
    assert failed is not None
    assert (failed.task_id, failed.previous_task_ids, failed.total_cost, failed.cost) == (None, ("task-1",), 1.0, None)
    renewed = {
        name
        for name in names
        if (old := before[name]) and (new := after[name]) and old.idempotency_key != new.idempotency_key
    }
    assert renewed == {"failed", "unknown", "cancelled"}


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -1.0])
async def test_a_cost_limit_is_an_amount(fleet_url: str, amount: float) -> None:
    """Anything else is refused, and changes nothing."""
    async with Fleet(fleet_url) as fleet:
        await fleet.set_max_cost(3.0)
        with pytest.raises(ValueError, match="max_cost"):
            await fleet.set_max_cost(amount)
        with pytest.raises(ValueError, match="max_cost"):
            await fleet.resume(max_cost=amount)
    assert await execute(fleet_url, "SELECT max_cost FROM omni_accounts") == [(3.0,)]


@pytest.mark.slow
async def test_a_connection_that_was_lost_in_between_is_replaced(fleet_url: str) -> None:
    """A restart of the database, or a firewall, ends the connection of a program that does nothing for a while."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        assert await fleet.find("fox") is not None
        await execute(
            fleet_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'omni fleet'"
        )
        await asyncio.sleep(1.1)
        assert await fleet.find("fox") is not None
        assert await fleet.cancel("fox")


async def test_state_is_set_and_read(fleet_url: str) -> None:
    """Pause, drain, resume with a new limit, cancel: each is in the database, and `statistics` shows it."""
    async with Fleet(fleet_url) as fleet:
        async with Fleet(fleet_url, account="another") as other:
            with pytest.raises(LedgerError, match="no account"):
                await other.pause()
        await fleet.enqueue({"fox": "a fox", "hare": "a hare"})
        for change, state in ((fleet.pause, "paused"), (fleet.drain, "draining"), (fleet.resume, "running")):
            await change()
            [account] = (await fleet.statistics()).accounts
            assert account.state == state
        await fleet.resume(max_cost=12.5)
        assert await fleet.cancel("fox")
        await complete(fleet_url, "hare", "hare.mp4", cost=2.0)
        assert not await fleet.cancel("hare")
        assert not await fleet.cancel("nobody")
        await execute(
            fleet_url,
            "UPDATE omni_accounts SET holder = 'w1', epoch = 3, expires_at = now() + interval '9 s',"
            " stopped = 'no credit'",
        )
        await execute(
            fleet_url,
            "INSERT INTO omni_workers (worker, host, pid, role, version, started_at, seen_at, leads, fetching, fetched,"
            " bytes) VALUES ('w1', 'a', 7, 'all', '0.1', now(), now(), '{default}', 2, 5, 1000),"
            " ('gone', 'b', 8, 'all', '0.1', now(), now() - interval '2 min', '{}', 0, 0, 0)",
        )
        statistics = await fleet.statistics()
    [account], [worker] = statistics.accounts, statistics.workers
    assert (account.leader, account.epoch, account.max_cost, account.stopped) == ("w1", 3, 12.5, "no credit")
    assert 7 < account.lease_seconds <= 9
    assert (worker.worker, worker.leads, worker.fetching, worker.fetched) == ("w1", ("default",), 2, 5)
    assert (statistics.totals.jobs, statistics.totals.cost) == (2, 2.0)
    assert await execute(fleet_url, "SELECT key FROM omni_jobs WHERE cancel_wanted") == [("fox",)]
    assert (await execute(fleet_url, "SELECT resumes FROM omni_accounts"))[0][0] == 2


@pytest.mark.parametrize("kind", ["folder", "objects"])
async def test_a_fleet_becomes_a_folder(fleet_url: str, tmp_path: Path, kind: str) -> None:
    """`download` makes an ordinary ledger with the clips of all jobs that have ended; again, it adds what is new."""
    store, folder = tmp_path / "store", tmp_path / "here"
    store.mkdir()
    if kind == "objects":
        pytest.importorskip("obstore")
    async with Fleet(fleet_url, store=store if kind == "folder" else f"file://{store}") as fleet:
        await fleet.enqueue({name: f"a {name}" for name in ("fox", "hare", "lost", "bad", "waiting")})
        for name in ("fox", "hare"):
            (store / f"{name}.mp4").write_bytes(mp4(name))
            await complete(fleet_url, name, f"{name}.mp4")
        await end(fleet_url, "bad", "failed", "no", "task-bad")
        first = await fleet.download(folder)
        await complete(fleet_url, "lost", "lost.mp4")
        again = await fleet.download(folder)
        with pytest.raises(OSError, match=r"Not a directory|File exists"):
            await fleet.download(folder / "fox.mp4")
    assert (first.jobs, first.clips, first.missing) == (3, 2, ())
    assert (again.jobs, again.clips, again.missing) == (4, 2, ("lost.mp4",))
    with LedgerReader(folder) as reader:
        assert {record.key: str(record.status) for record in reader.jobs()} == {
            "fox": "completed",
            "hare": "completed",
            "bad": "failed",
            "lost": "completed",
        }
        assert reader.totals().cost == 3.0
        found = reader.find("fox")
        assert found is not None
        assert Path(found.paths[0]).read_bytes() == mp4("fox")
    page = gallery.write(folder)
    assert (page.jobs, page.clips) == (4, 2)
    with FleetReader(fleet_url) as fleet_reader:
        page = gallery.write(fleet_reader, folder=store)
    assert (page.path, page.jobs, page.clips) == (store / "gallery.html", 5, 2)
    assert json.loads((await execute(fleet_url, "SELECT count(*)::text FROM omni_jobs"))[0][0]) == 5


@pytest.mark.slow
async def test_the_events_of_a_fleet_become_telemetry(fleet_url: str, tmp_path: Path) -> None:
    """A bridge on each of two workers: together they count each job and its cost once; requests are spans."""
    pytest.importorskip("opentelemetry.sdk")
    from tests.support.telemetry import Backend

    backends = Backend(), Backend()
    with SandboxThread(median=0.1) as sandbox:
        settings: dict[str, Any] = {"store": tmp_path / "clips", "base_url": sandbox.base_url, "lease": 3}
        workers = [
            FleetWorker(fleet_url, api_keys={"default": sandbox.api_key}, on_event=backends[0].bridge(), **settings),
            FleetWorker(fleet_url, role="download", on_event=backends[1].bridge(), **settings),
        ]
        async with Fleet(fleet_url) as fleet:
            await fleet.enqueue(f"fox {number}" for number in range(8))
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker.run(until_done=True))
            totals = (await fleet.statistics()).totals
        sandbox.assert_paid_once()
    metrics = sum((Counter(backend.metrics()) for backend in backends), Counter())
    assert metrics["omni_async.jobs/completed"] == totals.by_status[JobStatus.COMPLETED] == 8
    assert metrics["omni_async.submits"] == totals.submits
    assert metrics["omni_async.cost"] == pytest.approx(totals.cost)
    names = [span.name for backend in backends for span in backend.exporter.get_finished_spans()]
    assert (names.count("submit"), names.count("download")) == (totals.submits, 8)


async def test_leaving_never_waits_for_the_listener(fleet_url: str) -> None:
    """A fleet is left within seconds at any moment, also in the turn in which a notification arrives."""
    for each in range(20):
        leaving = asyncio.create_task(_enter_notify_and_leave(fleet_url, each / 5_000))
        done, _ = await asyncio.wait({leaving}, timeout=30)
        assert done, f"the fleet of round {each} is not left"
        await leaving


async def _enter_notify_and_leave(url: str, seconds: float) -> None:
    async with Fleet(url) as fleet:
        await fleet.set_max_cost(10)  # its notification comes back to this fleet
        await asyncio.sleep(seconds)
