"""A ledger that was closed in good order is opened without a check of its whole content."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.ledger import schema
from tests.support.ledgers import opened, record_of
from tests.support.processes import finish, start_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the checks that are made from now on."""
    found: list[str] = []
    connect = schema._connect

    def traced(path: Path, options: str) -> sqlite3.Connection:
        db = connect(path, options)
        db.set_trace_callback(lambda statement: found.append(statement) if "integrity_check" in statement else None)
        return db

    monkeypatch.setattr(schema, "_connect", traced)
    return found


async def _make(path: Path) -> None:
    async with opened(path) as ledger:
        for number in range(20):
            await ledger.insert(record_of(f"k{number}"))


async def test_a_ledger_that_was_closed_in_good_order_is_not_checked_again(path: Path, checks: list[str]) -> None:
    """It is opened any number of times without a check, and holds what was written."""
    await _make(path)
    for number in range(3):
        async with opened(path) as ledger:
            assert await ledger.find("k7")
            await ledger.insert(record_of(f"again{number}"))
    assert checks == []


def _touch(path: Path) -> None:
    os.utime(path)


def _copy(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def _same_time_and_size(path: Path) -> None:
    """Change a byte as something does that hides it: size and time of the last change stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(byte)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _write_elsewhere(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE jobs SET error = 'x' WHERE key = 'k3'")
        db.commit()


def _forget(path: Path) -> None:
    path.with_name(f"{path.name}.lock").unlink()


def _other_note(path: Path) -> None:
    path.with_name(f"{path.name}.lock").write_text("closed in good order: inode 1, 2 bytes, 3/4")


@pytest.mark.parametrize("change", [_touch, _copy, _same_time_and_size, _write_elsewhere, _forget, _other_note])
async def test_a_ledger_that_may_have_changed_is_checked(
    path: Path, checks: list[str], change: Callable[[Path], Any]
) -> None:
    """Whatever happened to the file after it was closed, it is checked once, and not again after that."""
    await _make(path)
    change(path)
    async with opened(path):
        assert len(checks) == 1
    async with opened(path):
        assert len(checks) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_ledger_whose_process_was_killed_is_checked(path: Path, checks: list[str]) -> None:
    """A process that dies while it has the ledger open leaves no note, not even the one that it found."""
    await _make(path)
    program = (
        "import asyncio, os, signal, sys\nfrom pathlib import Path\nfrom omni_async.ledger import SqliteJobStore\n"
        "async def main():\n    await SqliteJobStore(Path(sys.argv[1])).open()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    process = await start_python(path.parent, "-c", program, str(path))
    status, _, _ = await finish(process)
    assert status == -signal.SIGKILL
    async with opened(path):
        assert len(checks) == 1
