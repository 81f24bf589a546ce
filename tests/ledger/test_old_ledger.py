"""A ledger that an older version wrote: it is migrated with everything in it, and resumed without paying again.

`data/schema3.db` was written by the last version of schema 3, through its own client, in many runs against a server in
memory: 49 jobs in every status, chains, references, webhooks, resubmits, a clip that broke off. Its clips were in
`/srv/clips`, its reference files in `/srv/pictures`. `data/schema3.json` says which tasks that server had, and what the
old client itself did when it resumed the ledger.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobStatus, OmniError
from omni_async.ledger import LedgerReader, schema
from omni_async.testing import MemoryServer, PaidTask, VirtualTimeLoop, inline_threads
from omni_async.testing.fake_clips import mp4
from omni_async.testing.memory_client import MemoryClient
from omni_async.timing import Clock
from tests.support.ledgers import InlineJobStore
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omni_async import Job
    from omni_async.jobs.store import JobStore

DATA = Path(__file__).with_name("data")
EXPECTED: dict[str, Any] = json.loads((DATA / "schema3.json").read_text("utf-8"))
RESUMED: dict[str, Any] = EXPECTED["resume"]

COLUMNS = {
    "took": "server_seconds",
    "doubtful": "ambiguous_submits",
    "earlier_task_ids": "previous_task_ids",
    "earlier_cost": "previous_cost",
    "sent_as": "sent_references",
    "part": "partial_download",
}
STATUSES = {"overdue": "timed_out", "undelivered": "download_failed"}


@pytest.fixture
def anyio_backend() -> Iterator[tuple[str, dict[str, Any]]]:
    """Virtual time: resumed jobs are first checked when they are expected to end."""
    with inline_threads():
        yield "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a copy of the old ledger, in the folder that a client is going to use."""
    path = tmp_path / "clips" / "ledger.db"
    path.parent.mkdir()
    shutil.copyfile(DATA / "schema3.db", path)
    return path


async def _migrate(path: Path) -> None:
    store = InlineJobStore(path)
    await store.open()
    await store.aclose()


def _table(path: Path, name: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT * FROM {name} ORDER BY 1, 2")]


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """Return an old row with the names of this version, file names instead of paths, and no name for its clip."""
    row = {COLUMNS.get(name, name): value for name, value in row.items()} | {"name": None}
    row["status"] = STATUSES.get(row["status"], row["status"])
    row["videos"] = None  # new in version 5
    if row["paths"]:
        row["paths"] = json.dumps([path.removeprefix("/srv/clips/") for path in json.loads(row["paths"])])
    return row


async def test_a_migration_keeps_every_value_under_its_new_name(path: Path) -> None:
    """All 49 rows, their requests, uploads and file names stay; only the learned limits are dropped."""
    tables = ("jobs", "requests", "uploads", "files", "facts")
    before = {name: _table(path, name) for name in tables}
    await _migrate(path)
    after = {name: _table(path, name) for name in tables}
    assert len(before["jobs"]) == 49
    assert {row["status"] for row in after["jobs"]} == {str(status) for status in JobStatus}
    assert after["jobs"] == [_renamed(row) for row in before["jobs"]]
    for name in ("requests", "uploads", "files"):
        assert after[name] == before[name]
    facts = {row["name"]: row["value"] for row in before["facts"]} | {"output_dir": '"/srv/clips"'}
    assert facts.pop("limits")
    assert {row["name"]: row["value"] for row in after["facts"]} == facts


async def test_a_migrated_ledger_is_a_ledger_of_this_version(path: Path, tmp_path: Path) -> None:
    """It has the tables, columns and indexes of a new one, in any order, and opens again without a change."""
    fresh = tmp_path / "fresh.db"
    await _migrate(path)
    await _migrate(fresh)

    def columns(of: Path) -> set[tuple[str, ...]]:
        query = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
        with closing(sqlite3.connect(of)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
            return set(db.execute(query)) | set(db.execute("SELECT type, name FROM sqlite_master"))

    assert columns(path) == columns(fresh)
    rows = _table(path, "jobs")
    await _migrate(path)
    assert _table(path, "jobs") == rows


async def test_a_reader_gives_what_the_old_ledger_recorded(path: Path) -> None:
    """Sums, statuses and absolute paths are those of the old file, before and after a client has migrated it."""
    old = _table(path, "jobs")
    with LedgerReader(path) as reader:
        unmigrated = list(reader.jobs()), reader.totals()
    assert old == _table(path, "jobs")
    await _migrate(path)
    with LedgerReader(path) as reader:
        jobs, totals = list(reader.jobs()), reader.totals()
        otters = reader.find("otters")
        assert otters is not None
        assert otters == reader.find_task(str(otters.task_id))
    assert (jobs, totals) == unmigrated
    assert [job.key for job in jobs] == [row["key"] for row in sorted(old, key=lambda row: row["id"])]
    assert otters.paths == ("/srv/clips/otters.mp4", "/srv/clips/otters-2.mp4")
    assert [list(job.paths) for job in jobs] == [
        json.loads(row["paths"] or "[]") for row in sorted(old, key=lambda row: row["id"])
    ]
    assert totals.jobs == 49
    assert totals.cost == pytest.approx(sum((row["cost"] or 0.0) + row["earlier_cost"] for row in old))
    assert totals.submits == sum(row["submits"] for row in old)
    assert totals.by_status[JobStatus.TIMED_OUT] == totals.by_status[JobStatus.DOWNLOAD_FAILED] == 2


# From here on: resuming it, on virtual time.


class LaterClock(Clock):
    """A clock on which the old client has ended a minute ago."""

    def __init__(self) -> None:
        self._start = asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Return unix time as it was then."""
        return float(EXPECTED["made_until"]) + 60.0 + self.now() - self._start


class LaterClient(MemoryClient):
    """A client of this version over the old ledger."""

    def _make_store(self) -> JobStore:
        assert self._ledger_path is not None
        return InlineJobStore(self._ledger_path)

    def _make_clock(self) -> Clock:
        return LaterClock()


def _server() -> MemoryServer:
    """Return the server that the old client used, some time later: all of its tasks have ended."""
    server = MemoryServer()
    for task in EXPECTED["server_tasks"]:
        task_id, key, body = task["task_id"], task["idempotency_key"], {"prompt": task["prompt"]}
        server.tasks[task_id] = PaidTask(task_id, body, 0.0, 0.0, task["fails"], key)
        if key is not None:
            server._task_id_by_key[key] = task_id
    server._numbers = count(1000)  # above the ids that are taken
    return server


def _store_partial_clips(folder: Path) -> None:
    """Put the part files of the old client into a folder: the first bytes of their clips."""
    task_ids = {"heron": "task_00000000000000000000000017", "harbour": "task_00000000000000000000000029"}
    for key, task_id in task_ids.items():
        clip = mp4(_url(task_id))
        part = f"{key}.mp4.part"
        (folder / part).write_bytes(clip[: EXPECTED["part_files"][part]])


def _store_images(path: Path, folder: Path) -> None:
    """Put the reference images into a folder, with the content that was uploaded, and let the requests name that."""
    folder.mkdir()
    (folder / "fox.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"fox" * 20)
    (folder / "heron.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"heron" * 20)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE requests SET request = replace(request, '/srv/pictures', ?)", (str(folder),))


async def _outcome(job: Job) -> str:
    try:
        return (await job).name
    except OmniError as error:
        return type(error).__name__


async def _resume(path: Path, server: MemoryServer) -> dict[str, str]:
    """Resume the ledger, and return the outcome of each job."""
    async with LaterClient(server, output_dir=path.parent, ledger=path) as client:
        return {job.key: await _outcome(job) for job in await resumed(client)}


@pytest.mark.parametrize("has_images", [True, False], ids=["with its images", "without its images"])
async def test_an_old_ledger_is_resumed_without_paying_twice(path: Path, tmp_path: Path, has_images: bool) -> None:
    """The same jobs are resumed as by the old client: the same POSTs under the same keys, ranges and outcomes.

    The video of one ambiguous submit is gone here: it cannot be sent again byte for byte, so its job is unknown. A job
    whose image is gone fails before it is sent.
    """
    if has_images:
        _store_images(path, tmp_path / "pictures")
    _store_partial_clips(path.parent)
    before = {row["key"]: _renamed(row) for row in _table(path, "jobs")}
    server = _server()
    known = set(server.tasks)
    outcomes = await _resume(path, server)
    after = {row["key"]: row for row in _table(path, "jobs")}

    changed = {"tide-goes": ("unknown", "SubmitOutcomeUnknown")}
    if not has_images:
        changed["fox-queue"] = ("failed", "InvalidReference")
    assert list(outcomes) == RESUMED["taken_up"]
    for key, end in RESUMED["ends"].items():
        outcome = "SubmitOutcomeUnknown" if end["outcome"] == "SubmitUnknown" else end["outcome"]
        assert before[key]["status"] == STATUSES.get(end["before"], end["before"])
        assert (after[key]["status"], outcomes[key]) == changed.get(key, (end["after"], outcome)), key
        if key not in changed:
            assert [before[key]["submits"], after[key]["submits"]] == end["submits"], key
            assert [before[key]["ambiguous_submits"], after[key]["ambiguous_submits"]] == end["ambiguous_submits"]

    posts = {post.key: (post.task_id in known, post.body) for post in server.posts}
    assert len(posts) == len(server.posts)
    assert posts == {
        post["idempotency_key"]: (post["is_replayed"], post["body"])
        for post in RESUMED["posts"]
        if post["key"] not in changed
    }
    assert set(posts) <= {row["idempotency_key"] for row in before.values()}
    new_prompts = [task.prompt for task_id, task in server.tasks.items() if task_id not in known]
    assert sorted(new_prompts) == sorted(body["prompt"] for is_replayed, body in posts.values() if not is_replayed)
    assert not set(new_prompts) & {task["prompt"] for task in EXPECTED["server_tasks"]}


async def test_the_clips_of_an_old_ledger_are_downloaded_once(path: Path) -> None:
    """Each unfinished clip is downloaded once, with the Range of before where its part file is there."""
    _store_partial_clips(path.parent)
    server = _server()
    known = {_url(task["task_id"]) for task in EXPECTED["server_tasks"]}
    await _resume(path, server)
    downloads = [[url, headers.get("Range", "")] for _, url, headers in server.downloads if url in known]
    not_resent = _url_of("the tide goes")  # without its reference files
    assert sorted(downloads) == sorted(each for each in RESUMED["fetched"] if each[0] in known - {not_resent})
    assert sorted(each[1] for each in downloads)[-2:] == ["bytes=16384-", "bytes=78066-"]


def _url(task_id: str) -> str:
    return f"https://cdn.test/{task_id}.mp4"


def _url_of(prompt: str) -> str:
    (task_id,) = [task["task_id"] for task in EXPECTED["server_tasks"] if task["prompt"] == prompt]
    return _url(task_id)


async def test_a_second_resume_of_an_old_ledger_does_nothing(path: Path) -> None:
    """Once resumed it has no unfinished job, and a reader finds the clips in the folder of the new client."""
    server = _server()
    await _resume(path, server)
    posts, downloads = len(server.posts), len(server.downloads)
    assert await _resume(path, server) == {}
    assert (len(server.posts), len(server.downloads)) == (posts, downloads)
    with LedgerReader(path) as reader:
        harbour = reader.find("harbour")
        assert harbour is not None
        assert harbour.paths == (str(path.parent / "harbour.mp4"),)
        assert Path(harbour.paths[0]).read_bytes() == mp4(_url_of("a harbour wakes"))
