"""One job's clips go from the host into the clip store, and the row is changed once."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import DownloadError, Limits, Retry
from omni_async.fleet import FleetWorker
from omni_async.fleet.clips import SpooledClipStore, clip_store
from omni_async.fleet.fetcher import Fetcher
from tests.support.fleet_clips import ACCOUNT, FleetRows
from tests.support.markers import long_run
from tests.support.other_videos import OTHER_VIDEOS
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import JobEvent

pytestmark = needs_postgres


def fetcher(rows: FleetRows, clips: SpooledClipStore | Path, worker: str = "worker-1", **settings: Any) -> Fetcher:
    """Return the fetcher of a worker, over a folder or another store."""
    store = clips if isinstance(clips, SpooledClipStore) else clip_store(clips, clips.parent / "spool", give_up_after=0)
    return Fetcher(rows.database, store, worker=worker, **settings)


async def test_a_job_is_completed_with_its_clip(rows: FleetRows, tmp_path: Path) -> None:
    """The clip is in the store under the job's name, and the row says where, when, and by whom; its links are gone."""
    events: list[JobEvent] = []
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips", on_event=events.append) as worker:
        await worker.fetch(ACCOUNT, "fox")
    assert (tmp_path / "clips/fox.mp4").read_bytes() == rows.host.clip("fox")
    job = await rows.job("fox")
    assert (job["status"], job["paths"], job["fetched_by"]) == ("completed", '["fox.mp4"]', "worker-1")
    assert (job["videos"], job["error"], job["links_wanted"]) == (None, "", False)
    assert job["finished_at"] > 1_700_000_000
    assert (worker.totals.fetched, worker.totals.fetching) == (1, 0)
    assert worker.totals.bytes == len(rows.host.clip("fox"))
    assert [event.status for event in events if event.kind == "status"] == ["completed"]
    assert events[-1].path == tmp_path / "clips/fox.mp4"


async def test_a_clip_has_the_name_that_its_job_wants(rows: FleetRows, tmp_path: Path) -> None:
    """In its own case, and made safe."""
    await rows.add("fox")
    await rows.execute("UPDATE omni_jobs SET name = 'The Fox: 1' WHERE key = 'fox'")
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
    assert (await rows.job("fox"))["paths"] == '["The Fox_ 1.mp4"]'
    assert (tmp_path / "clips/The Fox_ 1.mp4").read_bytes() == rows.host.clip("fox")


async def test_every_video_of_a_task_is_stored(rows: FleetRows, tmp_path: Path) -> None:
    """The second and third clip get names of their own, which no other job has."""
    await rows.add("fox", videos=3)
    await rows.execute("INSERT INTO omni_files VALUES (%s, 'fox-2', 'another job', 0)", ACCOUNT)
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
    names = json.loads((await rows.job("fox"))["paths"])
    assert names[0] == "fox.mp4"
    assert "fox-2.mp4" not in names
    for number, name in enumerate(names):
        assert (tmp_path / "clips" / name).read_bytes() == rows.host.clip(f"fox.{number}")


async def test_a_task_that_comes_twice_at_once_changes_the_row_once(rows: FleetRows, tmp_path: Path) -> None:
    """Two workers, and one of them twice, download one job into one folder: one clip, whole, completed by one."""
    rows.host.seconds = 0.3
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips", "one") as one, fetcher(rows, tmp_path / "clips", "two") as two:
        await asyncio.gather(*(each.fetch(ACCOUNT, "fox") for each in (one, two, one)))
        assert one.totals.fetched + two.totals.fetched == 1
        await one.fetch(ACCOUNT, "fox")  # and once more, late
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["fox.mp4"]
    assert (tmp_path / "clips/fox.mp4").read_bytes() == rows.host.clip("fox")
    assert rows.host.requests["fox"] == 3
    assert (await rows.job("fox"))["paths"] == '["fox.mp4"]'


@pytest.mark.parametrize("status", ["cancelled", "waiting", "completed", "failed", "download_failed"])
async def test_a_row_that_wants_no_download_is_left_alone(rows: FleetRows, tmp_path: Path, status: str) -> None:
    """A task for a job that was decided otherwise does nothing, and so does one for a job that there is not."""
    await rows.add("fox")
    await rows.execute("UPDATE omni_jobs SET status = %s", status)
    before = await rows.job("fox")
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
        await worker.fetch(ACCOUNT, "hen")
        await worker.fetch("another", "fox")
    assert await rows.job("fox") == before
    assert not rows.host.requests


@pytest.mark.parametrize("change", ["status = 'cancelled'", "task_id = 'another task'"])
async def test_what_is_decided_during_a_download_stays(rows: FleetRows, tmp_path: Path, change: str) -> None:
    """A job that is cancelled, or submitted again, while its clip arrives is not completed by that clip."""
    rows.host.seconds = 5.0
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips") as worker, asyncio.TaskGroup() as group:
        group.create_task(worker.fetch(ACCOUNT, "fox"))
        await rows.host.wait_for_transfers(1)
        await rows.execute(f"UPDATE omni_jobs SET {change}")
        before = await rows.job("fox")
        rows.host.seconds = 0.0
    assert await rows.job("fox") == before
    assert worker.totals.fetched == 0


async def test_links_that_are_refused_are_asked_of_the_leader(rows: FleetRows, tmp_path: Path) -> None:
    """The row says that fresh links are wanted and why, the task is done, and with fresh links the job completes."""
    rows.host.refused.add("fox")
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
        job = await rows.job("fox")
        assert (job["status"], job["links_wanted"]) == ("downloading", True)
        assert "HTTP 403" in job["error"]
        links = json.dumps([{"url": f"{rows.host.url}/fresh", "expires_at": None}])
        await rows.execute("UPDATE omni_jobs SET videos = %s, links_wanted = false", links)
        await worker.fetch(ACCOUNT, "fox")
    job = await rows.job("fox")
    assert (job["status"], job["links_wanted"], job["error"]) == ("completed", False, "")
    assert (tmp_path / "clips/fox.mp4").read_bytes() == rows.host.clip("fresh")


@pytest.mark.parametrize("videos", [None, "[]"])
async def test_a_row_without_links_asks_the_leader(rows: FleetRows, tmp_path: Path, videos: str | None) -> None:
    """Nothing is requested, and nothing fails."""
    await rows.add("fox")
    await rows.execute("UPDATE omni_jobs SET videos = %s", videos)
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
    assert (await rows.job("fox"))["links_wanted"] is True
    assert not rows.host.requests


async def test_a_link_that_has_expired_by_this_clock_is_tried_all_the_same(rows: FleetRows, tmp_path: Path) -> None:
    """The clock of a worker may be wrong; the host decides."""
    await rows.add("fox")
    links = json.dumps([{"url": f"{rows.host.url}/fox", "expires_at": 1.0}])
    await rows.execute("UPDATE omni_jobs SET videos = %s", links)
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
    assert (await rows.job("fox"))["status"] == "completed"


async def test_a_full_store_is_another_task_later_and_in_the_end_a_failed_download(
    rows: FleetRows, small_disk: Path, tmp_path: Path
) -> None:
    """The first attempts raise, so that the queue repeats them; the last one records the reason. Nothing is left."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(8 * 1024**2 - 16 * 1024))
    await rows.add("fox")
    async with fetcher(rows, clip_store(small_disk, tmp_path / "spool", give_up_after=0)) as worker:
        for attempt in range(5):
            with pytest.raises(DownloadError, match="No space left"):
                await worker.fetch(ACCOUNT, "fox", attempt=attempt)
            assert (await rows.job("fox"))["status"] == "downloading"
        await worker.fetch(ACCOUNT, "fox", attempt=5)
    job = await rows.job("fox")
    assert job["status"] == "download_failed"
    assert "No space left" in job["error"]
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.slow
async def test_a_worker_with_a_full_disk_leaves_the_clips_to_others(
    rows: FleetRows, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails faster than others succeed. No job fails although tasks are repeated at once, and it says why."""
    monkeypatch.setattr("omni_async.fleet.fetch_queue._LONGEST_RETRY", 0)
    with suppress(OSError):
        (small_disk / "filler").write_bytes(bytes(9 * 1024**2))
    rows.host.seconds = 0.3
    await rows.add(*(f"k{number}" for number in range(25)))
    common: dict[str, Any] = {"role": "download", "store": tmp_path / "clips"}
    full = FleetWorker(rows.url, **common, spool=small_disk)
    other = FleetWorker(rows.url, **common, spool=tmp_path / "spool", limits=Limits(max_downloads=1))
    async with asyncio.timeout(60), anyio.create_task_group() as group:
        group.start_soon(full.run)
        group.start_soon(other.run)
        await rows.wait_for("completed", 25, seconds=60)
        group.cancel_scope.cancel()
    assert sum(rows.host.requests.values()) <= 25 + 8 * 6
    assert [
        each.message for each in caplog.records if "No space left" in each.message and "pauses" in each.message
    ] != []


async def test_a_host_that_is_away_fails_the_download_after_the_retry_timeout(rows: FleetRows, tmp_path: Path) -> None:
    """The reason is recorded. The leader is not asked: other links would lead to the same host."""
    await rows.add("fox")
    await rows.execute("UPDATE omni_jobs SET videos = replace(videos, %s, 'http://127.0.0.1:9')", rows.host.url)
    async with fetcher(rows, tmp_path / "clips", retry=Retry(timeout=0.5, wait_initial=0.1)) as worker:
        await worker.fetch(ACCOUNT, "fox")
    job = await rows.job("fox")
    assert (job["status"], job["links_wanted"]) == ("download_failed", False)
    assert "127.0.0.1:9" in job["error"]


async def test_a_file_of_others_keeps_its_name(rows: FleetRows, tmp_path: Path) -> None:
    """The clip gets another name, which the job keeps from then on."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/fox.mp4").write_bytes(b"mine")
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
    assert json.loads((await rows.job("fox"))["paths"]) == ["fox-new.mp4"]
    assert (tmp_path / "clips/fox.mp4").read_bytes() == b"mine"
    assert (tmp_path / "clips/fox-new.mp4").read_bytes() == rows.host.clip("fox")


async def test_two_accounts_may_use_one_key_in_one_store(rows: FleetRows, tmp_path: Path) -> None:
    """Each job gets its own clip under its own name."""
    await rows.execute("INSERT INTO omni_accounts (account, server) VALUES ('b', 'http://127.0.0.1:9')")
    await rows.add("fox")
    await rows.add("fox", account="b")
    await rows.execute("UPDATE omni_jobs SET videos = replace(videos, '/fox', '/hen') WHERE account = 'b'")
    async with fetcher(rows, tmp_path / "clips") as worker:
        await asyncio.gather(worker.fetch(ACCOUNT, "fox"), worker.fetch("b", "fox"))
    for account, clip in ((ACCOUNT, "fox"), ("b", "hen")):
        (name,) = json.loads((await rows.job("fox", account))["paths"])
        assert (tmp_path / "clips" / name).read_bytes() == rows.host.clip(clip)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1, 0.2, *map(long_run, (0.005, 0.01, 0.05, 0.3))])
async def test_cancelled_at_any_moment_a_fetch_leaves_no_trace_or_everything(
    rows: FleetRows, tmp_path: Path, seconds: float
) -> None:
    """The clip is whole or absent, the spool is empty, no transfer goes on, and the next fetch completes the job."""
    rows.host.seconds = 0.2
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips") as worker:
        with anyio.move_on_after(seconds):
            await worker.fetch(ACCOUNT, "fox")
        assert worker.totals.fetching == 0
        assert not any((worker.clips.spool).iterdir())
        if (tmp_path / "clips/fox.mp4").exists():
            assert (tmp_path / "clips/fox.mp4").read_bytes() == rows.host.clip("fox")
        await worker.fetch(ACCOUNT, "fox")
        await asyncio.sleep(0.3)
        assert rows.host.transferring == 0
    assert (await rows.job("fox"))["paths"] == '["fox.mp4"]'


async def test_another_kind_of_video_is_kept_and_said(rows: FleetRows, tmp_path: Path) -> None:
    """It was paid for: the job's error, or the leader's next look, names it, and the file is in the store."""
    rows.host.clip = lambda name: OTHER_VIDEOS["webm"]  # type: ignore[method-assign]
    await rows.add("fox")
    async with fetcher(rows, tmp_path / "clips") as worker:
        await worker.fetch(ACCOUNT, "fox")
    assert (tmp_path / "clips/fox.unverified.webm").read_bytes() == OTHER_VIDEOS["webm"]
    assert not (tmp_path / "clips/fox.mp4").exists()
    assert "webm" in (await rows.job("fox"))["error"]
