"""The ledger on a disk without room: who waits is told, and what could not be written is written when there is room."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError
from omni_async.ledger import LedgerReader, SqliteJobStore
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from pathlib import Path

BIG = "x" * 20_000


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of a test is."""
    return tmp_path / "ledger.db"


def _fill(ledger: SqliteJobStore) -> None:
    """Let the file have no page more than it has."""
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")


def _make_room(ledger: SqliteJobStore) -> None:
    ledger._db.execute("PRAGMA max_page_count=1000000")


async def test_a_full_disk_is_told_and_saves_are_not_forgotten(path: Path) -> None:
    """Each operation of the failing group raises; with room again, the next write brings all the saves along."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("before"))
        _fill(ledger)
        operations = [ledger.save(record_of(f"k{number}", error=BIG)) for number in range(3)]
        for operation in operations:
            with pytest.raises(LedgerError, match="cannot be written: database or disk is full"):
                await operation
        with pytest.raises(LedgerError):
            await ledger.save(record_of("k0", error=BIG, submits=2))
        _make_room(ledger)
        await ledger.insert(record_of("after"))
        with closing(LedgerReader(path)) as reader:
            found = {record.key: record.submits for record in reader.jobs()}
    assert found == {"before": 0, "k0": 2, "k1": 0, "k2": 0, "after": 0}


async def test_an_insert_that_failed_is_forgotten(path: Path) -> None:
    """Whoever was told that his job is not recorded never finds it recorded later: it was not sent either."""
    async with opened(path) as ledger:
        _fill(ledger)
        with pytest.raises(LedgerError):
            await ledger.insert(record_of("k", request=BIG))
        _make_room(ledger)
        assert await ledger.find("k") is None


async def test_the_newest_state_wins_over_what_failed_before(path: Path) -> None:
    """A save that failed never comes back over a later one that went through."""
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


async def test_what_cannot_be_written_to_the_end_is_named(path: Path) -> None:
    """Closing tries once more, and then raises with the keys; the file is whole, as it was before."""
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
    """The same on a file system that is really full: told, kept, and written once something was removed."""
    ballast = small_disk / "ballast"
    async with opened(small_disk / "ledger.db") as ledger:
        await ledger.insert(record_of("before"))
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        failed = 0
        for number in range(200):
            try:
                await ledger.save(record_of(f"k{number}", error=BIG))
            except LedgerError:
                failed += 1
        assert failed > 100
        ballast.unlink()
        async with asyncio.timeout(20):
            await ledger.save(record_of("after"))
    async with opened(small_disk / "ledger.db") as ledger:
        assert len(await unfinished(ledger)) == 202
