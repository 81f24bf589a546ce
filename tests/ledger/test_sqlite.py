"""The ledger in a real file: what was awaited is on disk, in the order of calls, with few commits."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobStatus, LedgerError
from omni_async.jobs.records import JobRecord, PartialDownload
from omni_async.jobs.spending import Spending
from omni_async.ledger import LedgerReader, MemoryJobStore, SqliteJobStore, schema, sqlite
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = JobRecord(
    key="all",
    idempotency_key="omni-1",
    request='{"prompt":"x"}',
    parent="before",
    parent_task_id="task_0",
    status=JobStatus.DOWNLOAD_FAILED,
    task_id="task_1",
    created_at=1.5,
    submitted_at=2.5,
    accepted_at=3.5,
    finished_at=4.5,
    submits=3,
    ambiguous_submits=2,
    cost=0.88,
    credits=8.8,
    paths=("a.mp4", "a-2.mp4"),
    error="no room",
    previous_task_ids=("task_a", "task_b"),
    previous_cost=0.5,
    partial_download=PartialDownload(index=1, offset=10, total=20, validator='"v"', etag='W/"e"'),
)


async def test_every_field_comes_back_after_a_restart(path: Path) -> None:
    """A record with every field set, and one with none, are unchanged in the next run."""
    async with opened(path) as ledger:
        assert await ledger.insert(FULL) is None
        await ledger.save(JobRecord(key="bare"))
    async with opened(path) as ledger:
        assert await ledger.find("all") == FULL
        assert await ledger.find("bare") == JobRecord(key="bare")
        assert await ledger.find("missing") is None


async def test_an_insert_does_not_change_an_existing_job(path: Path) -> None:
    """A second insert of a key returns the first record and leaves it; so does a task that another key has."""
    first = record_of("k", status=JobStatus.RUNNING, task_id="task_1")
    async with opened(path) as ledger:
        await ledger.insert(first)
        assert await ledger.insert(record_of("k", request='{"prompt": "other"}')) == first
        assert await ledger.insert(JobRecord(key="mine", task_id="task_1", status=JobStatus.RUNNING)) == first
        assert await ledger.find("mine") is None
        assert await ledger.find("k") == first
        # Only a task that was submitted elsewhere is identified by its id: a request is a job of its own.
        assert await ledger.insert(record_of("another", task_id="task_1")) is None


async def test_an_awaited_change_survives_a_kill(path: Path) -> None:
    """A process killed with SIGKILL right after an await has lost no change that it awaited."""
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from omni_async.jobs.records import JobRecord
from omni_async.ledger import SqliteJobStore
async def main():
    ledger = SqliteJobStore(Path(sys.argv[1]))
    await ledger.open()
    for number in range(50):
        await ledger.insert(JobRecord(key=f"k{number}", request="{}"))
    saves = [ledger.save(JobRecord(key=f"k{number}", submits=1)) for number in range(50)]
    await asyncio.gather(*map(wait, saves))
    os.kill(os.getpid(), signal.SIGKILL)
async def wait(operation):
    await operation
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    async with opened(path) as ledger:
        assert [(record.key, record.submits) for record in await unfinished(ledger)] == [
            (f"k{n}", 1) for n in range(50)
        ]


async def test_the_order_of_calls_is_the_order_in_the_file(path: Path) -> None:
    """Of many changes that are not awaited in between, the last one counts, and a find sees those before it."""
    async with opened(path) as ledger:
        operations: list[Any] = [ledger.insert(record_of("k"))]
        for number in range(1, 500):
            operations.append(ledger.save(record_of("k", submits=number)))
            operations.append(ledger.find("k"))
        seen = [await operation for operation in operations]
        assert [record.submits for record in seen[2::2]] == list(range(1, 500))
    async with opened(path) as ledger:
        found = await ledger.find("k")
        assert found is not None
        assert found.submits == 499


def _count_commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    statements: list[str] = []
    really_open = schema.open_to_write

    def open_to_write(path: Path, **options: Any) -> sqlite3.Connection:
        db = really_open(path, **options)
        db.set_trace_callback(statements.append)
        return db

    monkeypatch.setattr(sqlite, "open_to_write", open_to_write)
    return statements


async def test_concurrent_writers_share_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred writers with ten changes each need hardly more commits than one writer with ten."""
    statements = _count_commits(monkeypatch)

    async def write(ledger: SqliteJobStore, number: int) -> None:
        await ledger.insert(record_of(f"k{number}"))
        for submits in range(1, 10):
            await ledger.save(record_of(f"k{number}", submits=submits))

    async with opened(path) as ledger:
        await asyncio.gather(*(write(ledger, number) for number in range(200)))
    commits = statements.count("COMMIT")
    assert 10 <= commits <= 60
    with closing(LedgerReader(path)) as reader:
        assert reader.totals().submits == 200 * 9


async def test_each_await_of_a_single_writer_is_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No change counts as durable before its own commit: ten awaits in a row are ten commits."""
    statements = _count_commits(monkeypatch)
    async with opened(path) as ledger:
        for number in range(10):
            await ledger.save(record_of("k", submits=number))
            assert statements.count("COMMIT") == number + 2  # one was for opening
        assert statements.count("BEGIN IMMEDIATE") == 11
    assert not [text for text in statements if "ROLLBACK" in text]


async def test_commits_wait_for_the_disk(path: Path) -> None:
    """The connection uses a write-ahead log and waits for the disk at each commit."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
        settings = [ledger._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]


async def test_unfinished_jobs_are_found_by_their_index(path: Path) -> None:
    """They come oldest first, whatever the order of their changes, and the partial index finds them."""
    async with opened(path) as ledger:
        for status in JobStatus:
            await ledger.insert(record_of(str(status), status=status))
        await ledger.save(record_of("waiting", submits=1))
        ended = {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.UNKNOWN, JobStatus.CANCELLED}
        assert [record.key for record in await unfinished(ledger)] == [
            str(each) for each in JobStatus if each not in ended
        ]
        query = f"{schema.SELECT_WITH_ID} WHERE {schema.UNFINISHED} AND id > 0 ORDER BY id LIMIT 10"
        plan = ledger._db.execute(f"EXPLAIN QUERY PLAN {query}")
        assert "unfinished_jobs" in str(plan.fetchall())


async def test_both_stores_count_money_alike(path: Path) -> None:
    """By SQL and in memory, for every status with and without cost, task and previous cost, the sums are the same."""
    records = [
        record_of(f"{status} {cost} {task} {previous}", status=status, cost=cost, task_id=task, previous_cost=previous)
        for status in JobStatus
        for cost in (None, 0.0, 0.44)
        for task in (None, "task_1")
        for previous in (0.0, 0.3)
    ]
    memory = MemoryJobStore()
    async with opened(path) as ledger:
        assert await ledger.spending() == Spending()
        for record in records:
            await ledger.insert(record)
            await memory.insert(record)
        in_file, in_memory = await ledger.spending(), await memory.spending()
    assert (in_file.priced_jobs, in_file.unpriced_jobs) == (in_memory.priced_jobs, in_memory.unpriced_jobs)
    assert in_file.paid == pytest.approx(in_memory.paid)
    assert in_file.unpriced_jobs > 5


async def test_file_names_stay_the_same_across_restarts(path: Path) -> None:
    """A key keeps its file name, two keys never share one (not even "A" and "a"), and each video has its own."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("Fox"))
        await ledger.insert(record_of("fox"))
        await ledger.insert(record_of("fox-2"))
        before = [await ledger.claim_filename(key, index) for key in ("Fox", "fox", "fox-2") for index in (0, 1, 2)]
    assert len({name.casefold() for name in before}) == 9
    assert before[0] == "Fox.mp4"
    async with opened(path) as ledger:
        for key in ("fox-2", "fox", "Fox", "FOX"):
            await ledger.insert(record_of(key))
        assert [
            await ledger.claim_filename(key, index) for key in ("Fox", "fox", "fox-2") for index in (0, 1, 2)
        ] == before
        assert (await ledger.claim_filename("FOX", 0)).casefold() not in {name.casefold() for name in before}


async def test_file_names_are_given_in_the_order_of_jobs_not_of_downloads(path: Path) -> None:
    """The job that came first has the plain name, whichever clip is downloaded first."""
    async with opened(path) as ledger, opened(path.with_name("other.db")) as other:
        for key in ("Fox", "fox"):
            await ledger.insert(record_of(key))
            await other.insert(record_of(key))
        assert await ledger.claim_filename("fox", 0) != "fox.mp4"
        assert await other.claim_filename("Fox", 0) == "Fox.mp4"
        assert await ledger.claim_filename("Fox", 0) == "Fox.mp4"
        assert await other.claim_filename("fox", 0) == await ledger.claim_filename("fox", 0)


ODD = [
    "nul \0 within",
    "🦊" * 200,
    "שלום עולם",
    "k" * 1000,
    "a/b\\c:d",
    "..",
    "con",
    "\u00e9",
    "e\u0301",
    "'; DROP TABLE jobs;--",
]


@pytest.mark.parametrize("text", ODD)
async def test_odd_texts_come_back_unchanged(path: Path, text: str) -> None:
    """A key, request or error with any text is recorded and found, and gets a file name."""
    async with opened(path) as ledger:
        await ledger.insert(record_of(text, request=json.dumps({"prompt": text}), error=text, task_id=text))
    async with opened(path) as ledger:
        found = await ledger.find(text)
        assert found is not None
        assert (found.key, found.error, found.task_id) == (text, text, text)
        assert json.loads(found.request) == {"prompt": text}
        assert (await ledger.claim_filename(text, 0)).endswith(".mp4")


async def test_keys_that_look_alike_are_different_keys(path: Path) -> None:
    """One letter composed in two ways makes two keys, with two files."""
    async with opened(path) as ledger:
        assert [await ledger.insert(record_of(text)) for text in ODD] == [None] * len(ODD)
        names = [(await ledger.claim_filename(text, 0)).casefold() for text in ODD]
    assert len(set(names)) == len(ODD)


async def test_an_error_that_is_not_valid_text_is_recorded(path: Path) -> None:
    """An error may quote a path whose bytes are not UTF-8. It stays readable, and no change of another job is lost."""
    async with opened(path) as ledger:
        bad = ledger.save(record_of("k", error="no room for b\udce4r.mp4"))
        good = ledger.save(record_of("other", submits=1))
        await bad
        await good
        found = await ledger.find("k")
        assert found is not None
        assert found.error == "no room for b\\udce4r.mp4"


async def test_a_closed_ledger_raises_at_every_call(path: Path) -> None:
    """After closing, every call raises when it is awaited, and none waits."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    await ledger.aclose()
    calls: list[Callable[[], Any]] = [
        lambda: ledger.insert(record_of("k")),
        lambda: ledger.save(record_of("k")),
        lambda: ledger.record_accepted(record_of("k", task_id="t")),
        lambda: ledger.find("k"),
        lambda: ledger.claim_filename("k", 0),
        ledger.spending,
    ]
    for call in calls:
        with pytest.raises(LedgerError, match="is closed") as caught:
            await call()
        assert caught.value.permanent
    with pytest.raises(LedgerError, match="is closed"):
        (await unfinished(ledger))
    await ledger.aclose()


async def test_closing_makes_every_change_durable(path: Path) -> None:
    """Changes that were never awaited are there after closing, and only the lock is beside the file."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    for number in range(100):
        ledger.save(record_of(f"k{number}"))
    await ledger.aclose()
    assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]
    with closing(LedgerReader(path)) as reader:
        assert len(list(reader.jobs())) == 100
    ledger._thread.join(5)
    assert not ledger._thread.is_alive()


async def test_every_waiter_gets_a_traceback_of_its_own(path: Path) -> None:
    """The traceback of an error does not grow with each task that awaits it."""
    path.write_text("not a ledger, and long enough to be examined" * 100)
    ledger = SqliteJobStore(path)
    with pytest.raises(LedgerError):
        await ledger.open()
    depths = []
    for _ in range(3):
        with pytest.raises(LedgerError) as caught:
            await ledger.find("k")
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"task_id": "\ud800"},
        {"submits": 2**70},
        {"cost": 10**400},
        {"webhook": ["no text"]},
        {"key": None},
    ],
    ids=str,
)
async def test_a_row_that_cannot_be_written_fails_alone(path: Path, bad: dict[str, Any]) -> None:
    """The changes that are committed with it are on disk, and so are those that follow; its own operation raises."""
    async with opened(path) as ledger:
        first = ledger.insert(record_of("first"))
        wrong = ledger.save(record_of(**{"key": "bad"} | bad))
        last = ledger.save(record_of("last"))
        with pytest.raises(Exception) as caught:
            await wrong
        assert not isinstance(caught.value, LedgerError)
        await first
        await last
        await ledger.save(record_of("later"))
    async with opened(path) as again:
        assert [record.key for record in await unfinished(again)] == ["first", "last", "later"]
