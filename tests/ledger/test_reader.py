"""A reader beside a writer: always welcome, never in the way, and clear about what it cannot read."""

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


async def test_readers_see_whole_commits_while_a_writer_writes(path: Path) -> None:
    """Readers come and go during two thousand changes; each sees sums that fit together, and none stops the writer."""
    seen: list[int] = []
    is_over = False

    def read() -> None:
        while not is_over:
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
            is_over = True
        await asyncio.gather(*readers)
    assert len(set(seen)) > 5
    with closing(LedgerReader(path)) as reader:
        assert reader.totals().submits == 1800


async def test_a_slow_reader_does_not_stop_the_writer(path: Path) -> None:
    """Somebody who has read half of the jobs and pauses sees them as of when he began; writing goes on."""
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


async def test_totals_jobs_and_find(path: Path) -> None:
    """Sums by status and of money, jobs by status in their order, and one job by its key."""
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
        assert reader.find("nobody") is None
        with pytest.raises(ValueError, match="nonsense"):
            list(reader.jobs("nonsense"))


async def test_where_there_is_no_ledger_the_reader_says_so(path: Path) -> None:
    """No file, an empty one, and one that was never finished being made: no job has been recorded there."""

    def begin() -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode=WAL")

    stages: list[Callable[[], object]] = [path.parent.exists, path.touch, begin]
    for make in stages:
        make()
        with pytest.raises(LedgerError, match=r"there is no ledger .*: no job has been recorded there"):
            LedgerReader(path.parent)


async def test_damage_is_told_by_the_reader_too(path: Path) -> None:
    """A reader that meets a broken page, or a row that nobody could have written, says which file it is."""
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


async def test_a_reader_of_a_folder_with_nothing_to_write_to(read_only: Path) -> None:
    """On a disk that cannot be written, sums and jobs are read as anywhere."""
    with LedgerReader(read_only / "old") as reader:
        assert reader.totals().jobs == 1
        assert reader.find("k") == record_of("k")


async def test_a_reader_changes_nothing(path: Path) -> None:
    """Looking into a ledger that nobody has open leaves it, byte by byte, and what it lays beside it holds nothing."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        assert reader.totals().jobs == 1
    assert path.read_bytes() == before
    log = path.with_name("ledger.db-wal")
    assert not log.exists() or log.stat().st_size == 0


async def test_a_reader_that_has_been_here_does_not_keep_others_out(small_disk: Path) -> None:
    """The empty log that a reader may leave is no hindrance once the disk can no longer be written."""
    async with opened(small_disk / "ledger.db") as ledger:
        await ledger.insert(record_of("k"))
    with LedgerReader(small_disk) as reader:
        assert reader.totals().jobs == 1
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=10)
    with LedgerReader(small_disk) as reader:
        assert reader.totals().jobs == 1


async def test_a_reader_does_not_keep_a_writer_out(path: Path) -> None:
    """A client opens, writes and closes a ledger into which somebody looks all the while."""
    open_to_write(path).close()
    with LedgerReader(path) as reader:
        ledger = SqliteJobStore(path)
        await ledger.open()
        await ledger.insert(record_of("k"))
        assert reader.totals().jobs == 1
        await ledger.aclose()
        assert reader.totals().jobs == 1
