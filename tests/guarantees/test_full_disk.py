"""The ledger on a full disk: waiters get an error, and what could not be written is written once there is space."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, LedgerError
from omni_async.ledger import LedgerReader, SqliteJobStore
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from pathlib import Path

BIG = "x" * 20_000


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the ledger of a test."""
    return tmp_path / "ledger.db"


def _fill(ledger: SqliteJobStore) -> None:
    """Make the disk full: the file may not grow by a page."""
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")


def _make_room(ledger: SqliteJobStore) -> None:
    ledger._db.execute("PRAGMA max_page_count=1000000")


async def test_saves_that_failed_are_repeated(path: Path) -> None:
    """Each operation of the failed group raises. With space again, the next write includes all of its saves."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("before"))
        _fill(ledger)
        operations = [ledger.save(record_of(f"k{number}", error=BIG)) for number in range(3)]
        for operation in operations:
            with pytest.raises(LedgerError, match="cannot be written: database or disk is full") as caught:
                await operation
            assert not caught.value.permanent  # there may be space again
        with pytest.raises(LedgerError):
            await ledger.save(record_of("k0", error=BIG, submits=2))
        _make_room(ledger)
        await ledger.insert(record_of("after"))
        with closing(LedgerReader(path)) as reader:
            found = {record.key: record.submits for record in reader.jobs()}
    assert found == {"before": 0, "k0": 2, "k1": 0, "k2": 0, "after": 0}


async def test_an_insert_that_failed_is_not_repeated(path: Path) -> None:
    """A job whose insert raised is never recorded later: it was not sent either."""
    async with opened(path) as ledger:
        _fill(ledger)
        with pytest.raises(LedgerError):
            await ledger.insert(record_of("k", request=BIG))
        _make_room(ledger)
        assert await ledger.find("k") is None


async def test_a_newer_save_wins_over_one_that_failed(path: Path) -> None:
    """A save that failed never overwrites a later one that succeeded."""
    async with opened(path) as ledger:
        _fill(ledger)
        with pytest.raises(LedgerError):
            await ledger.save(record_of("k", error=BIG, submits=1))
        _make_room(ledger)
        await ledger.save(record_of("k", submits=2))
        await ledger.save(record_of("other"))
        found = await ledger.find("k")
        assert found is not None
        assert (found.submits, found.error) == (2, "")


async def test_closing_names_the_jobs_that_could_not_be_written(path: Path) -> None:
    """Closing tries once more, then raises an error with the keys. The file is undamaged."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    await ledger.insert(record_of("before"))
    _fill(ledger)
    with pytest.raises(LedgerError):
        await ledger.save(record_of("lost", error=BIG))
    with pytest.raises(LedgerError, match=r"the last changes of 1 job\(s\) \('lost'\) could not be written"):
        await ledger.aclose()
    async with opened(path) as again:
        assert [record.key for record in await unfinished(again)] == ["before"]


async def test_a_real_full_disk(small_disk: Path) -> None:
    """The same on a file system that is really full: saves raise, are kept, and are written once there is space."""
    filler = small_disk / "ballast"
    async with opened(small_disk / "ledger.db") as ledger:
        await ledger.insert(record_of("before"))
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        failed = 0
        for number in range(200):
            try:
                await ledger.save(record_of(f"k{number}", error=BIG))
            except LedgerError:
                failed += 1
        assert failed > 100
        filler.unlink()
        async with asyncio.timeout(20):
            await ledger.save(record_of("after"))
    async with opened(small_disk / "ledger.db") as ledger:
        assert len(await unfinished(ledger)) == 202


async def test_an_acceptance_that_could_not_be_written_is_repeated(path: Path) -> None:
    """A task_id may be billed: it is recorded as soon as there is space, also if the job was cancelled meanwhile."""
    accepted = record_of("k", status=JobStatus.RUNNING, task_id="task_1", submits=1, idempotency_key="i")
    async with opened(path) as ledger:
        await ledger.insert(replace(accepted, status=JobStatus.CANCELLED, task_id=None, error="cancelled"))
        ledger._db.execute("PRAGMA query_only=ON")
        with pytest.raises(LedgerError):
            await ledger.record_accepted(accepted)
        ledger._db.execute("PRAGMA query_only=OFF")
        await ledger.save(record_of("other"))
        found = await ledger.find("k")
    assert found is not None
    assert (found.status, found.task_id, found.error) == (JobStatus.CANCELLED, "task_1", "cancelled")
