"""One process owns a ledger; who comes second is told who has it, and a killed owner leaves no lock behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError, LedgerLocked, OmniClient
from omni_async.ledger import SqliteJobStore, lock
from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from pathlib import Path

OWNER = """
import asyncio, sys
from pathlib import Path
from omni_async.ledger import SqliteJobStore
async def main():
    await SqliteJobStore(Path(sys.argv[1])).open()
    print("open", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_second_client_in_this_process_is_told_so(path: Path) -> None:
    """Two clients over one folder would be two writers; the first is not disturbed."""
    async with OmniClient("sk-x", base_url="http://127.0.0.1:9", output_dir=path.parent):
        with pytest.raises(LedgerLocked, match="in use by this process itself") as caught:
            async with OmniClient("sk-x", base_url="http://127.0.0.1:9", output_dir=path.parent):
                raise AssertionError("never entered")
        assert caught.value.pid == os.getpid()
    async with opened(path):  # free again
        pass


async def test_another_way_to_the_same_file_is_the_same_lock(path: Path) -> None:
    """A link to the folder or to the file does not get around the lock."""
    (path.parent / "door").symlink_to(path.parent)
    (path.parent / "alias.db").symlink_to(path)
    async with opened(path):
        for way in (path.parent / "door" / path.name, path.parent / "alias.db"):
            with pytest.raises(LedgerLocked):
                await SqliteJobStore(way).open()


async def test_a_second_process_names_the_first_and_a_kill_frees_it(path: Path) -> None:
    """The error has the owner's pid; once that is killed with SIGKILL, the ledger opens, with all that is in it."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
    with subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == b"open\n"
            with pytest.raises(LedgerLocked, match=f"in use by process {owner.pid}") as caught:
                await SqliteJobStore(path).open()
            assert caught.value.pid == owner.pid
        finally:
            owner.kill()
    async with opened(path) as ledger:
        assert await ledger.find("k") == record_of("k")


FORKED = """
import asyncio, os, sys, time
from pathlib import Path
from omni_async.ledger import SqliteJobStore
async def main():
    ledger = SqliteJobStore(Path(sys.argv[1]))
    await ledger.open()
    there, here = os.pipe()
    if os.fork() == 0:
        os.write(here, b"!")  # from now on it has let go
        time.sleep(60)
        os._exit(0)
    os.read(there, 1)
    print("forked", flush=True)
    if sys.argv[2] == "left":
        await ledger.aclose()
        print("left", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("way", ["left", "killed"])
async def test_a_forked_process_does_not_hold_the_lock(path: Path, way: str) -> None:
    """A worker that was forked while the ledger was open lives on: the ledger opens once its owner left or died."""
    program = [sys.executable, "-W", "ignore", "-c", FORKED, str(path), way]
    with subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == b"forked\n"
            if way == "left":
                assert owner.stdout.readline() == b"left\n"
            else:
                with pytest.raises(LedgerLocked):
                    await SqliteJobStore(path).open()
                owner.kill()
                owner.wait()
            async with opened(path):
                pass
        finally:
            os.killpg(owner.pid, signal.SIGKILL)


async def test_a_file_system_without_locks_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network folders cannot lock; the error says to keep the ledger on a disk of this machine."""

    def refuse(_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock, "_lock", refuse)
    with pytest.raises(LedgerError, match=r"cannot be locked: Function not implemented. Keep it on a local disk"):
        await SqliteJobStore(path).open()
    assert not path.exists()


async def test_a_refused_ledger_is_not_locked(path: Path) -> None:
    """Who was refused holds no lock: the file can be mended and opened by the same process."""
    path.write_text("nonsense" * 100)
    with pytest.raises(LedgerError):
        await SqliteJobStore(path).open()
    path.unlink()
    async with opened(path):
        pass
