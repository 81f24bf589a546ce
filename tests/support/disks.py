"""Fixtures: a small file system, and a read-only one. They need the right to mount."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a file system with eight megabytes; skip the test if none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=10)
    except OSError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


@pytest.fixture
async def read_only(small_disk: Path) -> Path:
    """Return the folder of a read-only file system, with a ledger in its folder `old`."""
    async with opened(small_disk / "old" / "ledger.db") as ledger:
        await ledger.insert(record_of("k"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=10)
    return small_disk
