"""A ledger whose files vanish while it is open stops submissions, because nothing can be recorded any more."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError, OmniError, Polling
from omni_async.jobs.records import JobRecord
from omni_async.ledger.open_files import OpenFiles
from omni_async.ledger.sqlite import SqliteJobStore
from omni_async.testing import MemoryServer
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    """Use real threads and files."""
    return "asyncio"


def remove_folder(path: Path) -> None:
    """Remove the whole folder."""
    shutil.rmtree(path.parent)


def move_folder(path: Path) -> None:
    """Move the folder to another name."""
    path.parent.rename(path.parent.with_name("moved"))


def replace_folder(path: Path) -> None:
    """Put an empty folder in its place."""
    move_folder(path)
    path.parent.mkdir()


def replace_file(path: Path) -> None:
    """Put a copy in its place, as a backup program or a synchronised folder does."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def remove_wal(path: Path) -> None:
    """Remove the write-ahead log."""
    path.with_name(path.name + "-wal").unlink()


VANISHES = [remove_folder, move_folder, replace_folder, os.unlink, replace_file, remove_wal]


@pytest.mark.parametrize("vanish", VANISHES)
async def test_a_change_fails_once_the_file_is_not_at_its_path(tmp_path: Path, vanish: Callable[[Path], None]) -> None:
    """SQLite itself would go on without an error."""
    path = tmp_path / "clips" / "ledger.db"
    store = SqliteJobStore(path)
    await store.open()
    await store.insert(JobRecord(key="before"))
    vanish(path)
    with pytest.raises(LedgerError, match="removed, moved or replaced"):
        await store.insert(JobRecord(key="after"))
    with suppress(LedgerError):
        await store.aclose()


@pytest.mark.parametrize("vanish", slow_after(2, VANISHES))
async def test_nothing_more_is_submitted_after_the_ledger_has_vanished(
    tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    """The job that comes next is not sent. The error says what to do."""
    server, path = MemoryServer(duration=0.01, latency=0.001), tmp_path / "clips" / "ledger.db"
    polling = Polling(min_interval=0.02, max_interval=0.05)
    with suppress(LedgerError):  # on closing: what could not be written
        async with server.client(tmp_path / "clips", ledger=path, polling=polling) as client:
            await client.submit("first")
            vanish(path)
            with pytest.raises(OmniError, match="removed, moved or replaced"):
                await client.submit("second")
            assert client.stop_error is not None
    assert [post.body["prompt"] for post in server.posts] == ["first"]


async def test_a_file_that_is_back_at_its_path_is_used_again(tmp_path: Path) -> None:
    """What could not be recorded in between is recorded then."""
    path = tmp_path / "clips" / "ledger.db"
    store = SqliteJobStore(path)
    await store.open()
    record = JobRecord(key="job")
    await store.insert(record)
    moved = path.parent.with_name("moved")
    path.parent.rename(moved)
    with pytest.raises(LedgerError):
        await store.save(record)
    moved.rename(path.parent)
    await store.save(record)
    await store.aclose()


def test_files_that_appear_later_are_not_a_change(tmp_path: Path) -> None:
    """SQLite makes its companions when it first needs them."""
    path = tmp_path / "ledger.db"
    path.touch()
    files = OpenFiles(path)
    files.check()
    path.with_name("ledger.db-wal").touch()
    files.check()
    path.with_name("ledger.db-wal").unlink()
    with pytest.raises(LedgerError):
        files.check()
