"""A reader never disturbs the writer, and its errors say what it cannot read."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, LedgerError, OmniError
from omni_async.ledger import LedgerReader, SqliteJobStore
from omni_async.ledger.schema import open_to_write
from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.slow
async def test_readers_see_complete_commits_while_a_client_writes(path: Path) -> None:
    """Readers come and go during two thousand changes. Each sees consistent sums, and none stops the writer."""
    seen: list[int] = []
    is_writing = True

    def read() -> None:
        while is_writing:
            with closing(LedgerReader(path)) as reader:
                jobs = list(reader.jobs())
            assert [job.key for job in jobs] == [f"k{number}" for number in range(len(jobs))]
            seen.append(sum(job.submits for job in jobs))

    async with opened(path) as ledger:
        readers = [asyncio.create_task(asyncio.to_thread(read)) for _ in range(3)]
        try:
            for number in range(200):
                await ledger.insert(record_of(f"k{number}"))
                for submits in range(1, 10):
                    await ledger.save(record_of(f"k{number}", submits=submits))
        finally:
            is_writing = False
        await asyncio.gather(*readers)
    assert len(set(seen)) > 5
    with closing(LedgerReader(path)) as reader:
        assert reader.totals().submits == 1800


async def test_a_slow_reader_does_not_block_the_writer(path: Path) -> None:
    """A reader that pauses in the middle still sees the jobs as of its start, while writing continues."""
    async with opened(path) as ledger:
        for number in range(10):
            await ledger.insert(record_of(f"k{number}"))
        with closing(LedgerReader(path)) as reader:
            jobs = reader.jobs()
            assert next(jobs).key == "k0"
            async with asyncio.timeout(20):
                for number in range(10, 100):
                    await ledger.insert(record_of(f"k{number}"))
            assert len(list(jobs)) == 9
            assert len(list(reader.jobs())) == 100


async def test_a_reader_gives_totals_jobs_and_single_jobs(path: Path) -> None:
    """Totals by status and of money, jobs by status in their order, and one job by its key."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("a", status=JobStatus.COMPLETED, cost=0.44, credits=4.4, submits=1))
        await ledger.insert(record_of("b", status=JobStatus.FAILED, cost=0.0, submits=2, ambiguous_submits=1))
        await ledger.insert(record_of("c", submits=3, ambiguous_submits=2, previous_cost=0.5))
    with LedgerReader(path.parent) as reader:
        totals = reader.totals()
        assert (totals.jobs, totals.submits, totals.ambiguous_submits, totals.possibly_paid_twice) == (3, 6, 3, 1)
        assert (totals.cost, totals.credits) == (0.94, 4.4)
        assert totals.by_status == {JobStatus.WAITING: 1, JobStatus.COMPLETED: 1, JobStatus.FAILED: 1}
        assert [job.key for job in reader.jobs(JobStatus.WAITING, "completed")] == ["a", "c"]
        assert reader.find("b") == record_of("b", status=JobStatus.FAILED, cost=0.0, submits=2, ambiguous_submits=1)
        assert reader.find("missing") is None
        with pytest.raises(ValueError, match="nonsense"):
            list(reader.jobs("nonsense"))


async def test_a_reader_says_that_there_is_no_ledger(path: Path) -> None:
    """If there is no file, an empty one, or one whose creation was cut short, no job has been recorded there."""

    def begin() -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode=WAL")

    stages: list[Callable[[], object]] = [path.parent.exists, path.touch, begin]
    for make in stages:
        make()
        with pytest.raises(LedgerError, match=r"there is no ledger .*: no job has been recorded there"):
            LedgerReader(path.parent)


async def test_a_reader_reports_damage(path: Path) -> None:
    """A broken page, or a row that no ledger has written, raises an error that names the file."""
    async with opened(path) as ledger:
        for number in range(300):
            await ledger.insert(record_of(f"k{number}", error="e" * 300))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE jobs SET status = 'nonsense' WHERE key = 'k7'")
    with closing(LedgerReader(path)) as reader, pytest.raises(LedgerError, match="damaged"):
        list(reader.jobs())
    with path.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(b"\xa5" * 4096 * 4)
    with closing(LedgerReader(path)) as reader, pytest.raises(OmniError, match="damaged"):
        list(reader.jobs())


async def test_a_reader_works_on_a_read_only_disk(read_only: Path) -> None:
    """Totals and jobs are read as on any other disk."""
    with LedgerReader(read_only / "old") as reader:
        assert reader.totals().jobs == 1
        assert reader.find("k") == record_of("k")


async def test_a_reader_changes_nothing(path: Path) -> None:
    """Reading a ledger that no client has open leaves its bytes as they are, and a log beside it is empty."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        assert reader.totals().jobs == 1
    assert path.read_bytes() == before
    log = path.with_name("ledger.db-wal")
    assert not log.exists() or log.stat().st_size == 0


async def test_an_earlier_reader_does_not_hinder_a_reader_on_a_read_only_disk(small_disk: Path) -> None:
    """The empty log that a reader may leave behind does no harm once the disk is read-only."""
    async with opened(small_disk / "ledger.db") as ledger:
        await ledger.insert(record_of("k"))
    with LedgerReader(small_disk) as reader:
        assert reader.totals().jobs == 1
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=10)
    with LedgerReader(small_disk) as reader:
        assert reader.totals().jobs == 1


async def test_a_reader_does_not_keep_a_client_out(path: Path) -> None:
    """A client opens, writes and closes a ledger while a reader has it open."""
    open_to_write(path).close()
    with LedgerReader(path) as reader:
        ledger = SqliteJobStore(path)
        await ledger.open()
        await ledger.insert(record_of("k"))
        assert reader.totals().jobs == 1
        await ledger.aclose()
        assert reader.totals().jobs == 1
