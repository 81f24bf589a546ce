"""A ledger in a folder of others: nothing is written through what they put there. Only its owner may read it."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError, LedgerReader
from omni_async.ledger import SqliteJobStore
from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THINGS: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("target"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/full"),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a file that must stay as it is, which links lead to."""
    target = tmp_path / "target"
    target.write_text("mine, and longer than the number of a process")
    return target


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("thing", THINGS)
async def test_nothing_is_written_through_what_others_put_there(
    path: Path, target: Path, thing: str, suffix: str
) -> None:
    """The error names the file and what to do. Nothing is changed or created, here or where a link leads."""
    THINGS[thing](path.with_name(path.name + suffix))
    before, content = {each.name for each in path.parent.iterdir()}, target.read_text()
    with pytest.raises(LedgerError, match=r"(?i)remove it|another folder|move it away") as caught:
        await SqliteJobStore(path).open()
    assert str(path) in str(caught.value) or (thing == "a link" and str(target) in str(caught.value))
    assert target.read_text() == content
    assert {each.name for each in path.parent.iterdir()} - before <= {"ledger.db.lock", "target.lock"}
    assert not (path.parent / "nowhere").exists()


async def test_a_linked_lock_file_is_not_written(path: Path, target: Path) -> None:
    """A hard link to another file serves as a lock, and keeps its content."""
    content = target.read_text()
    os.link(target, path.with_name("ledger.db.lock"))
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
    assert target.read_text() == content


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_read_a_new_ledger(path: Path, umask: int) -> None:
    """It holds prompts and signed links. The same for the files beside it, whatever the umask says."""
    before = os.umask(umask)
    try:
        async with opened(path) as ledger:
            await ledger.insert(record_of("k"))
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"], 0o600)


async def test_the_mode_of_an_old_ledger_is_kept(path: Path) -> None:
    """The user may have chosen to share it with a group."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
    path.chmod(0o640)
    async with opened(path) as ledger:
        await ledger.insert(record_of("other"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert stat.S_IMODE(path.with_name("ledger.db-wal").stat().st_mode) == 0o640


async def test_a_link_to_a_ledger_may_be_used(path: Path) -> None:
    """A link to the file that the user has made himself leads to the ledger, in its own folder."""
    folder = path.parent / "elsewhere"
    async with opened(folder / "ledger.db") as ledger:
        await ledger.insert(record_of("k"))
    path.symlink_to(folder / "ledger.db")
    async with opened(path) as ledger:
        await ledger.insert(record_of("other"))
    with closing(LedgerReader(folder)) as reader:
        assert [record.key for record in reader.jobs()] == ["k", "other"]
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".lock")] == []
