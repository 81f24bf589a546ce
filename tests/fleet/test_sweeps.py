"""What a leader does besides submitting, with its client replaced by one that records: the store is real."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import MODELS, NotFound, OmniError, TransportError, VideoRequest
from omni_async.api.parsing import Response
from omni_async.fleet import Fleet
from omni_async.fleet.clips import SpooledClipStore
from omni_async.fleet.destinations import FolderDestination
from omni_async.fleet.job_feed import JobFeed
from omni_async.fleet.sweeps import Sweeps
from omni_async.jobs.job import JobState
from tests.support.fleet_rows import execute
from tests.support.fleets import opened_fleet
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omni_async.jobs.records import JobRecord

pytestmark = [needs_postgres, pytest.mark.slow]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738"
    "550000000049454e44ae426082"
)


OTHER_MODEL = next(model for model in MODELS if model != VideoRequest(prompt="a fox").model)


@dataclass
class RecordingClient:
    """The client of a leader, which submits nothing. Tasks in `links` have links, all others no working server."""

    links: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, JobState] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    waiting: int = 0
    retry_timeout: float = 60.0
    stopped_models: dict[str, OmniError] = field(default_factory=dict)

    def wall(self) -> float:
        """Return a fixed time."""
        return 1_800_000_000.0

    def live(self, key: str) -> JobState | None:
        """Return a job that was taken up."""
        return self.jobs.get(key)

    def take_up(self, record: JobRecord) -> None:
        """Record that a job would be submitted or followed from here on."""
        self.jobs[record.key] = JobState(record)

    def cancel(self, state: JobState) -> bool:
        """Record that a job was cancelled."""
        self.cancelled.append(state.key)
        return True

    async def check(self, task_id: str) -> Response:
        """Return the links of a task."""
        self.checks.append(task_id)
        if task_id not in self.links:
            raise TransportError("no answer", sent=True)
        video = [{"url": [self.links[task_id]], "expires_at": 1_900_000_000}]
        task = {"id": task_id, "status": "completed", "result": {"videos": video}}
        return Response(status=200, body=json.dumps({"code": 200, "data": task}).encode())


class SlowDestination(FolderDestination):
    """A folder whose files are copied as from an object store, as soon as `is_open` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.has_begun = asyncio.Event()
        self.is_open = asyncio.Event()

    def location(self, name: str) -> str:
        """Return a URL."""
        return f"s3://bucket/{name}"

    async def copy_to(self, name: str, path: Path) -> bool:
        """Copy a file when that is allowed."""
        self.has_begun.set()
        await self.is_open.wait()
        return await super().copy_to(name, path)


class AwayDestination(SlowDestination):
    """An object store that cannot be reached while `is_away` is set."""

    is_away = True
    attempts = 0

    async def copy_to(self, name: str, path: Path) -> bool:
        """Raise `OSError` while it is away."""
        self.attempts += 1
        if self.is_away:
            raise OSError("no way to the bucket")
        return await FolderDestination.copy_to(self, name, path)


@asynccontextmanager
async def leader_parts(
    url: str, client: RecordingClient, clips: SpooledClipStore | None = None
) -> AsyncIterator[tuple[JobFeed, asyncio.Task[None]]]:
    """Yield the feed of a leader, and its sweeps, which run."""
    async with opened_fleet(url) as store:
        feed = JobFeed(client, store, clips, ahead=400)
        sweeping = asyncio.create_task(Sweeps(client, store, feed, None, lease_seconds=10).run())
        try:
            yield feed, sweeping
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})


async def test_a_job_cancelled_while_its_files_are_copied_is_not_submitted(fleet_url: str, tmp_path: Path) -> None:
    """Its row was read before it was cancelled; what was read then is out of date and is not taken up."""
    (tmp_path / "fox.png").write_bytes(PNG)
    client, destination = RecordingClient(), SlowDestination(tmp_path / "clips")
    clips = SpooledClipStore(destination, spool=tmp_path / "spool")
    await clips.prepare()
    async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
        await fleet.enqueue({"fox": VideoRequest(prompt="a fox", images=[tmp_path / "fox.png"]), "hare": "a hare"})
        async with leader_parts(fleet_url, client, clips) as (feed, _):
            filling = asyncio.create_task(feed.fill())
            await destination.has_begun.wait()
            assert await fleet.cancel("fox")
            await _until(fleet_url, "SELECT status FROM omni_jobs WHERE key = 'fox'", "cancelled")
            destination.is_open.set()
            await filling
            assert set(client.jobs) == {"hare"}
    await clips.aclose()


async def test_a_clip_store_that_is_away_holds_up_no_job_without_files(
    fleet_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One attempt shows that it is away, and the user is told once; jobs with files follow when it is back."""
    monkeypatch.setattr("omni_async.fleet.job_feed._FILES_PAUSE", 0.2)
    monkeypatch.setattr("omni_async.fleet.queue_cursor.RESCAN_INTERVAL", 0.0)
    (tmp_path / "fox.png").write_bytes(PNG)
    client, destination = RecordingClient(), AwayDestination(tmp_path / "clips")
    clips = SpooledClipStore(destination, spool=tmp_path / "spool")
    await clips.prepare()
    keys = [f"fox-{number:02}" for number in range(20)]
    async with Fleet(fleet_url, store=tmp_path / "clips") as fleet:
        await fleet.enqueue({key: VideoRequest(prompt=key, images=[tmp_path / "fox.png"]) for key in keys})
        await fleet.enqueue({"hare": "a hare"})
    async with leader_parts(fleet_url, client, clips) as (feed, _):
        await feed.fill()
        assert (set(client.jobs), destination.attempts) == ({"hare"}, 1)
        await asyncio.sleep(0.3)
        await feed.fill()
        assert destination.attempts == 2
        destination.is_away = False
        await asyncio.sleep(0.3)
        await feed.fill()
        assert set(client.jobs) == {"hare", *keys}
    assert [record.message.partition(":")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "jobs wait for their local files",
        "local files are read again",
    ]
    await clips.aclose()


async def test_jobs_of_a_model_that_is_not_served_keep_no_others_from_their_turn(fleet_url: str) -> None:
    """However many they are. Once nothing else waits, the reason is known; a restart reads them again."""
    refusal = NotFound("the server does not serve the model")
    client = RecordingClient(stopped_models={OTHER_MODEL: refusal}, waiting=1)
    async with Fleet(fleet_url) as fleet:
        requests = {f"other-{number:04}": VideoRequest(prompt="a fox", model=OTHER_MODEL) for number in range(1000)}
        await fleet.enqueue(requests | {"hare": VideoRequest(prompt="a hare")})
    async with leader_parts(fleet_url, client) as (feed, _):

        async def fill() -> str:
            for _ in range(3):
                await feed.fill()
            return feed.stopped

        assert (await fill(), set(client.jobs)) == ("", {"hare"})
        await execute(fleet_url, "UPDATE omni_jobs SET status = 'running' WHERE key = 'hare'")
        await feed.restart()
        assert await fill() == ""  # a job is being submitted
        client.waiting = 0
        assert await fill() == str(refusal)
        client.stopped_models.clear()
        assert await fill() == ""
        assert len(client.jobs) == 1001


async def _until(url: str, question: str, expected: object, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while (await execute(url, question))[0][0] != expected:
            await asyncio.sleep(0.05)


async def test_tasks_without_fresh_links_keep_no_others_from_theirs(fleet_url: str) -> None:
    """However many tasks cannot be checked at the moment, every job that wants links has its turn."""
    client = RecordingClient(links={"task-last": "https://clips.example.com/last.mp4"})
    keys = [*(f"stuck-{number:02}" for number in range(40)), "last"]
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({key: f"a {key}" for key in keys})
    wanted = "UPDATE omni_jobs SET status = 'downloading', task_id = 'task-' || key, submits = 1, links_wanted = true"
    await execute(fleet_url, f"{wanted}, accepted_at = 1, error = 'HTTP 403'")
    async with leader_parts(fleet_url, client):
        await _until(fleet_url, "SELECT links_wanted FROM omni_jobs WHERE key = 'last'", False)
    assert set(client.checks) == {f"task-{key}" for key in keys}
    [(count,)] = await execute(fleet_url, "SELECT count(*) FROM procrastinate_jobs WHERE args->>'key' = 'last'")
    assert count == 1
