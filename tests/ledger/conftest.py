"""What the tests of the ledger share: a ledger that is open, and a record to put into it."""

from __future__ import annotations

import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from omni_async.jobs.records import JobRecord
from omni_async.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Opener: TypeAlias = Callable[[Path], AbstractAsyncContextManager[SqliteLedger]]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteLedger]:
    """Open a ledger for this block."""
    ledger = SqliteLedger(path)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


def record_of(key: str, **facts: Any) -> JobRecord:
    """Give a record as a submit makes it."""
    usual: dict[str, Any] = {"request": f'{{"prompt": "{key}"}}', "idempotency_key": f"omni-{key}", "created_at": 5.0}
    return JobRecord(key=key, **usual | facts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of a test is."""
    return tmp_path / "ledger.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with eight megabytes, where one can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=10)
    except OSError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("nothing can be mounted here: that takes the rights of root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


@pytest.fixture
async def read_only(small_disk: Path) -> Path:
    """A file system that cannot be written (not even by root), with a ledger in the folder `old`."""
    async with opened(small_disk / "old" / "ledger.db") as ledger:
        await ledger.insert(record_of("k"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=10)
    return small_disk
