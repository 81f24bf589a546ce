"""Files that are not a ledger for this version are rejected: not one byte of them, or beside them, changes."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError, OmniClient
from omni_async.ledger import LedgerReader, SqliteJobStore
from omni_async.ledger.schema import APPLICATION_ID
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def _make_ledger(path: Path, jobs: int = 400) -> None:
    async with opened(path) as ledger:
        operations = [ledger.insert(record_of(f"k{number}", error="e" * 300)) for number in range(jobs)]
        for operation in operations:
            await operation


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def _corrupt_the_index(path: Path) -> None:
    """Make the index of keys differ from its table. No page is broken, but a key could be paid for twice."""
    content = path.read_bytes()
    offsets = (at for at in range(len(content)) if content.startswith(b"k123", at))
    others = (b"omni", b"k123"), (b'": "', b"mni-", b"k123")  # what follows and precedes the key in rows
    (index,) = (
        at for at in offsets if content[at + 4 : at + 8] not in others[0] and content[at - 4 : at] not in others[1]
    )
    _overwrite(path, index, b"k999")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a page of noise": lambda path: _overwrite(path, 4096 * 5, b"\xa5" * 4096),
    "many pages of noise": lambda path: _overwrite(path, 4096 * 3, os.urandom(4096 * 10)),
    "the first table page gone": lambda path: _overwrite(path, 4096, bytes(4096)),
    "header overwritten": lambda path: _overwrite(path, 0, b"garbage garbage "),
    "schema page overwritten": lambda path: _overwrite(path, 100, b"\xff" * 900),
    "half of it": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut within a page": lambda path: os.truncate(path, 4096 * 7 + 100),
    "only its head": lambda path: os.truncate(path, 4096),
    "only its first bytes": lambda path: os.truncate(path, 50),
    "a text": lambda path: path.write_text("key,status\nfox,completed\n" * 40),
    "one byte": lambda path: path.write_bytes(b"x"),
    "newer": lambda path: _sql(path, "PRAGMA user_version=99"),
    "no version": lambda path: _sql(path, "PRAGMA user_version=0"),
    "another program's": lambda path: _sql(path, "PRAGMA application_id=7"),
    "a wrong index": _corrupt_the_index,
}


def _all_bytes(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if not each.name.endswith(".lock")}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_ledger_is_rejected_and_left_unchanged(path: Path, damage: str) -> None:
    """Every kind of damage is found when the file is opened. The error names the file and what to do."""
    await _make_ledger(path)
    DAMAGES[damage](path)
    before = _all_bytes(path.parent)
    with pytest.raises(LedgerError, match=r"left unchanged") as caught:
        await SqliteJobStore(path).open()
    assert str(path) in str(caught.value)
    assert caught.value.permanent
    assert _all_bytes(path.parent) == before


def _foreign(path: Path, mode: str, *, leave_log: bool = False) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA journal_mode={mode}")
    db.execute("CREATE TABLE songs (name TEXT)")
    db.execute("INSERT INTO songs VALUES ('la')")
    if leave_log:  # as if its owner had been killed
        copies = {each: each.read_bytes() for each in path.parent.iterdir()}
        db.close()
        for each, content in copies.items():
            each.write_bytes(content)
    else:
        db.close()


@pytest.mark.parametrize("mode", ["delete", "wal", "wal with a log"])
async def test_a_database_of_another_program_is_rejected_and_left_unchanged(path: Path, mode: str) -> None:
    """It stays as it is, also with a write-ahead log, and with what its owner has not merged into the file yet."""
    _foreign(path, mode.partition(" ")[0], leave_log="log" in mode)
    before = _all_bytes(path.parent)
    with pytest.raises(LedgerError, match="a database of another program"):
        await SqliteJobStore(path).open()
    after = _all_bytes(path.parent)
    assert {name: after[name] for name in before if not name.endswith("-shm")} == {
        name: content for name, content in before.items() if not name.endswith("-shm")
    }
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM songs").fetchall() == [("la",)]


async def test_a_client_over_a_rejected_ledger_is_not_entered(path: Path) -> None:
    """Entering the client raises, and the error says what to do."""
    path.write_text("not a ledger" * 100)
    client = OmniClient("sk-x", base_url="http://127.0.0.1:9", output_dir=path.parent)
    with pytest.raises(LedgerError, match="Move it away, or use another folder or ledger"):
        async with client:
            raise AssertionError("never entered")


async def test_an_empty_path_is_not_the_same_as_no_ledger(tmp_path: Path) -> None:
    """An empty path is rejected. Only None keeps the record in memory, where the process loses it."""
    with pytest.raises(LedgerError):
        async with OmniClient("sk", base_url="http://127.0.0.1:9", output_dir=tmp_path, ledger=""):
            raise AssertionError("it was opened")


async def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    """A file that was only touched, or whose creation crashed before the first byte, is not damaged."""
    path.touch()
    async with opened(path) as ledger:
        await ledger.insert(record_of("k"))
    async with opened(path) as ledger:
        assert await ledger.find("k") == record_of("k")


async def test_the_log_of_a_removed_ledger_is_ignored(path: Path) -> None:
    """If the file was deleted but its log was left, a new ledger begins empty."""
    other = path.with_name("old.db")
    db = sqlite3.connect(other, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE songs (name TEXT)")
    shutil.copy(f"{other}-wal", f"{path}-wal")
    db.close()
    async with opened(path) as ledger:
        assert await ledger.insert(record_of("k")) is None
        assert [record.key for record in await unfinished(ledger)] == ["k"]


@pytest.mark.parametrize("stage", ["header", "tables in the log"])
async def test_a_crash_during_creation_is_no_damage(path: Path, stage: str) -> None:
    """A ledger whose creation was cut short, before or after its tables were in the log, opens as a new one."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    copies = {}
    if stage == "tables in the log":
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY)")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")  # not committed
        copies = {each: each.read_bytes() for each in path.parent.iterdir()}
        db.execute("ROLLBACK")
    db.close()
    for each, content in copies.items():
        each.write_bytes(content)
    async with opened(path) as ledger:
        assert await ledger.insert(record_of("k")) is None


async def test_a_kill_right_after_opening_leaves_a_ledger(path: Path) -> None:
    """What is only in the log, because the process was killed, is read by the next run."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    await ledger.insert(record_of("k"))
    copies = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    await ledger.aclose()
    copy = path.parent / "copy"
    copy.mkdir()
    for name, content in copies.items():
        (copy / name).write_bytes(content)
    with closing(LedgerReader(copy)) as reader:
        assert [record.key for record in reader.jobs()] == ["k"]
    async with opened(copy / path.name) as again:
        assert [record.key for record in await unfinished(again)] == ["k"]


async def test_a_truncated_log_is_read_as_far_as_it_goes(path: Path) -> None:
    """A power cut in the middle of a commit loses that commit, and no earlier one."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    await ledger.insert(record_of("first"))
    size = path.with_name("ledger.db-wal").stat().st_size
    await ledger.insert(record_of("second"))
    copies = {each.name: each.read_bytes() for each in path.parent.iterdir() if not each.name.endswith("-shm")}
    await ledger.aclose()
    copy = path.parent / "copy"
    copy.mkdir()
    copies["ledger.db-wal"] = copies["ledger.db-wal"][: size + 1000]
    for name, content in copies.items():
        (copy / name).write_bytes(content)
    async with opened(copy / path.name) as again:
        assert [record.key for record in await unfinished(again)] == ["first"]


async def test_a_path_below_a_file_is_rejected(tmp_path: Path) -> None:
    """If there can be no folder, the error says so."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="file"):
        await SqliteJobStore(tmp_path / "file" / "clips" / "ledger.db").open()
    (tmp_path / "folder").mkdir()
    with pytest.raises(LedgerError, match="cannot be opened"):
        await SqliteJobStore(tmp_path / "folder").open()


async def test_a_read_only_folder_is_rejected(read_only: Path) -> None:
    """The error says that the ledger cannot be opened."""
    with pytest.raises(LedgerError, match=r"cannot be opened"):
        await SqliteJobStore(read_only / "ledger.db").open()


async def test_a_ledger_on_a_read_only_disk_can_be_read_but_not_opened(read_only: Path) -> None:
    """A reader works where a client cannot."""
    with closing(LedgerReader(read_only / "old" / "ledger.db")) as reader:
        assert [record.key for record in reader.jobs()] == ["k"]
    with pytest.raises(LedgerError):
        await SqliteJobStore(read_only / "old" / "ledger.db").open()
