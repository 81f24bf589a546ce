"""One process owns a ledger. A second one gets an error that names the first; a killed owner leaves no lock behind."""

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


async def test_a_second_client_in_the_same_process_is_rejected(path: Path) -> None:
    """Two clients over one folder would be two writers. The first is not disturbed."""
    async with OmniClient("sk-x", base_url="http://127.0.0.1:9", output_dir=path.parent):
        with pytest.raises(LedgerLocked, match="in use by this process itself") as caught:
            async with OmniClient("sk-x", base_url="http://127.0.0.1:9", output_dir=path.parent):
                raise AssertionError("never entered")
        assert caught.value.pid == os.getpid()
        assert not caught.value.permanent  # waiting helps
    async with opened(path):  # free again
        pass


async def test_links_to_a_ledger_share_its_lock(path: Path) -> None:
    """A symbolic link to the folder or to the file does not evade the lock."""
    (path.parent / "link").symlink_to(path.parent)
    (path.parent / "alias.db").symlink_to(path)
    async with opened(path):
        for link in (path.parent / "link" / path.name, path.parent / "alias.db"):
            with pytest.raises(LedgerLocked):
                await SqliteJobStore(link).open()


async def test_a_second_process_gets_the_pid_of_the_first_and_a_kill_releases_the_lock(path: Path) -> None:
    """The error has the owner's pid. Once the owner is killed, the ledger opens with everything in it."""
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
        os.write(here, b"!")  # it has forgotten the lock
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
@pytest.mark.parametrize("end", ["left", "killed"])
async def test_a_forked_process_does_not_hold_the_lock(path: Path, end: str) -> None:
    """A process forked while the ledger was open keeps running; the ledger opens once its owner has left or died."""
    program = [sys.executable, "-W", "ignore", "-c", FORKED, str(path), end]
    with subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == b"forked\n"
            if end == "left":
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


async def test_a_file_system_without_locks_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems cannot lock; the error says to keep the ledger on a local disk."""

    def refuse(_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock, "_lock", refuse)
    with pytest.raises(
        LedgerError, match=r"cannot be locked: Function not implemented. Keep it on a local disk"
    ) as caught:
        await SqliteJobStore(path).open()
    assert caught.value.permanent
    assert not path.exists()


async def test_a_rejected_ledger_is_not_locked(path: Path) -> None:
    """After a file was rejected, it can be replaced and opened by the same process."""
    path.write_text("nonsense" * 100)
    with pytest.raises(LedgerError):
        await SqliteJobStore(path).open()
    path.unlink()
    async with opened(path):
        pass
