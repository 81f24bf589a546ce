"""Fixtures: a file system that is small, and one that cannot be written."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, TypeAlias

import pytest

from omni_async.ledger import SqliteJobStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Opener: TypeAlias = Callable[[Path], AbstractAsyncContextManager[SqliteJobStore]]


from tests.support.ledgers import opened, record_of


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
