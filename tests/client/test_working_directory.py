"""A client keeps its folders when the program changes its working directory."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import DownloadError, JobEvent, LedgerReader, OmniClient
from omni_async.downloads import partfile
from omni_async.ledger import MemoryJobStore
from omni_async.testing import MemoryServer
from omni_async.testing.memory_client import MemoryClient
from tests.support.ledgers import InlineJobStore

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.jobs.store import JobStore


class InlineClient(MemoryClient):
    """A client over a ledger file on virtual time; the file is in the output folder by default."""

    def __init__(self, server: MemoryServer, ledger: Any = ..., **settings: Any) -> None:
        super().__init__(server, ledger=ledger, **settings)

    def _make_store(self) -> JobStore:
        return InlineJobStore(self._ledger_path) if self._ledger_path else MemoryJobStore()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder of the test the working directory, and return another one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("ledger", [..., "books/ledger.db"], ids=["in the output folder", "elsewhere"])
@pytest.mark.parametrize("moment", ["before entering", "before submitting", "while running"])
async def test_clips_and_ledger_stay_together_when_the_working_directory_changes(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, moment: str, ledger: Any
) -> None:
    """Relative paths are resolved when the client is made."""
    events: list[JobEvent] = []
    client = InlineClient(MemoryServer(), output_dir="clips", ledger=ledger, on_event=events.append)

    def change_directory(at: str) -> None:
        if moment == at:
            monkeypatch.chdir(elsewhere)

    change_directory("before entering")
    async with client:
        change_directory("before submitting")
        job = client.submit("a fox", key="fox")
        await job.accepted()
        change_directory("while running")
        path = await job
    expected = tmp_path / "clips" / "fox.mp4"
    assert path == expected
    assert job.paths == (expected,)
    assert expected.is_file()
    assert events[-1].path == expected
    with LedgerReader(tmp_path / ("clips/ledger.db" if ledger is ... else ledger)) as reader:
        assert [record.paths for record in reader.jobs()] == [(str(expected),)]
    assert list(elsewhere.iterdir()) == []


async def test_a_later_run_finds_the_clips_of_a_relative_folder(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run in the same directory continues there; a run elsewhere has its own folder."""
    server = MemoryServer()
    for folder, posts in ((tmp_path, 1), (tmp_path, 1), (elsewhere, 2)):
        monkeypatch.chdir(folder)
        async with InlineClient(server, output_dir="clips") as client:
            assert await client.submit("a fox", key="fox") == folder / "clips" / "fox.mp4"
        assert len(server.posts) == posts


async def test_a_moved_folder_has_new_paths(tmp_path: Path) -> None:
    """If clips and ledger are moved together, nothing is sent or downloaded, and a reader returns the new paths."""
    server = MemoryServer()
    async with InlineClient(server, output_dir=tmp_path / "clips") as client:
        await client.submit("a fox", key="fox")
    (tmp_path / "clips").rename(tmp_path / "moved")
    async with InlineClient(server, output_dir=tmp_path / "moved") as client:
        assert await client.submit("a fox", key="fox") == tmp_path / "moved" / "fox.mp4"
    assert (len(server.posts), len(server.downloads)) == (1, 1)
    with LedgerReader(tmp_path / "moved") as reader:
        assert [record.paths for record in reader.jobs()] == [(str(tmp_path / "moved" / "fox.mp4"),)]


@pytest.mark.parametrize("is_moved", [True, False])
async def test_another_output_folder_for_the_same_ledger_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_moved: bool
) -> None:
    """Clips are never downloaded again: neither those left in the old folder nor those that were moved."""
    server, ledger = MemoryServer(), tmp_path / "ledger.db"
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        await client.submit("a fox", key="fox")
    if is_moved:
        (tmp_path / "one").rename(tmp_path / "two")
    async with InlineClient(server, ledger, output_dir=tmp_path / "two") as client:
        assert await client.submit("a fox", key="fox") == tmp_path / "two" / "fox.mp4"
    assert (len(server.posts), len(server.downloads)) == (1, 1)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (not is_moved)
    assert all(str(tmp_path / "one") in warning and str(tmp_path / "two") in warning for warning in warnings)


def gone(server: MemoryServer) -> None:
    """Let the server forget every task, and with it the URLs of its clips."""
    server.tasks.clear()


@pytest.mark.parametrize("way", ["link", "copy"])
async def test_a_clip_of_an_earlier_folder_is_taken_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The clip of a job is found also two folders later, when the server has it no longer: linked, or else copied."""
    if way == "copy":

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    server, ledger = MemoryServer(), tmp_path / "ledger.db"
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        content = (await client.submit("a fox", key="fox")).read_bytes()
    gone(server)
    async with InlineClient(server, ledger, output_dir=tmp_path / "two") as client:
        pass
    async with InlineClient(server, ledger, output_dir=tmp_path / "three") as client:
        path = await client.submit("a fox", key="fox")
    assert path == tmp_path / "three" / "fox.mp4"
    assert path.read_bytes() == (tmp_path / "one" / "fox.mp4").read_bytes() == content
    assert sorted(each.name for each in path.parent.iterdir()) == ["fox.mp4"]
    assert (len(server.posts), len(server.downloads)) == (1, 1)


async def test_a_clip_of_an_earlier_folder_does_not_replace_what_is_in_the_new_one(tmp_path: Path) -> None:
    """It gets a marked name, which stays its name."""
    server, ledger = MemoryServer(), tmp_path / "ledger.db"
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        await client.submit("a fox", key="fox")
    mine = tmp_path / "two" / "fox.mp4"
    mine.parent.mkdir()
    mine.write_text("mine")
    for _ in range(2):
        async with InlineClient(server, ledger, output_dir=tmp_path / "two") as client:
            assert await client.submit("a fox", key="fox") == tmp_path / "two" / "fox-new.mp4"
    assert mine.read_text() == "mine"
    assert (len(server.posts), len(server.downloads)) == (1, 1)


@pytest.mark.parametrize("old", ["missing", "incomplete", "link"])
async def test_only_whole_clips_are_taken_from_an_earlier_folder(tmp_path: Path, old: str) -> None:
    """Anything else is left where it is, and the clip is downloaded."""
    server, ledger = MemoryServer(), tmp_path / "ledger.db"
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        path = await client.submit("a fox", key="fox")
    content = path.read_bytes()
    path.unlink()
    if old == "incomplete":
        path.write_bytes(content[:-1])
    elif old == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    async with InlineClient(server, ledger, output_dir=tmp_path / "two") as client:
        path = await client.submit("a fox", key="fox")
    assert path.read_bytes() == content
    assert path.stat().st_nlink == 1
    assert len(server.downloads) == 2


async def test_a_clip_that_cannot_be_copied_leaves_its_job_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk says what is wrong, and a later run takes the clip."""
    server, ledger = MemoryServer(), tmp_path / "ledger.db"
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        await client.submit("a fox", key="fox")
    gone(server)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(partfile, "_copy", refuse)
    async with InlineClient(server, ledger, output_dir=tmp_path / "two") as client:
        with pytest.raises(DownloadError, match="No space left"):
            await client.submit("a fox", key="fox")
    monkeypatch.undo()
    with LedgerReader(ledger) as reader:
        assert [record.status for record in reader.jobs()] == ["completed"]
    async with InlineClient(server, ledger, output_dir=tmp_path / "two") as client:
        assert (await client.submit("a fox", key="fox")).is_file()


async def test_the_old_folder_may_be_a_path_that_this_system_cannot_read(tmp_path: Path) -> None:
    """A ledger may come from another user or another system: the client opens all the same."""
    server, ledger = MemoryServer(), tmp_path / "ledger.db"
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        await client.submit("a fox", key="fox")
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("UPDATE facts SET value = ? WHERE name = 'output_dir'", (json.dumps(f"/{'long' * 100}/clips"),))
    async with InlineClient(server, ledger, output_dir=tmp_path / "one") as client:
        assert await client.submit("a fox", key="fox") == tmp_path / "one" / "fox.mp4"


def test_the_repr_of_a_client_names_the_absolute_folder(tmp_path: Path, elsewhere: Path) -> None:
    """A log shows where the clips are."""
    assert f"output_dir='{tmp_path}/clips'" in repr(OmniClient("sk-test", output_dir="clips"))
