"""A program that runs again with the same keys finds its jobs, against the sandbox."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    DownloadError,
    JobFailed,
    JobStatus,
    KeyReused,
)
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from tests.support.restarts import Service

pytest.importorskip("av", reason="the sandbox renders with the extra `media`")


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_the_same_key_is_the_same_job_in_every_run(service: Service) -> None:
    """Three runs of a program pay once. Later runs resolve immediately without a request."""
    paths = []
    for _ in range(3):
        async with service.client() as client:
            paths.append(await client.submit("a fox", key="fox"))
    record = service.sandbox.record
    assert len(set(paths)) == 1
    assert (record.submits, record.accepted, record.downloads) == (1, 1, 1)
    assert service.row("fox").submits == 1


async def test_another_request_under_the_same_key_is_refused(service: Service) -> None:
    """In any run `KeyReused` is raised, nothing is sent, and the row of the first job is unchanged."""
    async with service.client() as client:
        await client.submit("a fox", key="fox")
        with pytest.raises(KeyReused, match="nothing was sent"):
            await client.submit("a hen", key="fox")
    before = service.row("fox")
    async with service.client() as client:
        with pytest.raises(KeyReused):
            await client.submit("a hen", key="fox")
        with pytest.raises(KeyReused):
            await client.submit("a fox", key="fox", aspect_ratio="9:16")
        assert client.statistics().completed == 1
    assert service.row("fox") == before
    assert service.submits == 1


@pytest.mark.parametrize("damage", slow_after(2, ["removed", "cut", "emptied", "overwritten", "a folder in its place"]))
async def test_a_missing_or_broken_clip_is_downloaded_again(service: Service, damage: str) -> None:
    """A completed job whose file is missing or incomplete is downloaded again without a payment."""
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    content = path.read_bytes()
    path.unlink()
    if damage == "emptied":
        path.touch()
    elif damage == "cut":
        path.write_bytes(content[:-5])
    elif damage == "overwritten":
        path.write_bytes(b"<html>" + content[6:])
    elif damage == "a folder in its place":
        path.mkdir()
    async with service.client() as client:
        name = "fox-new.mp4" if damage == "a folder in its place" else "fox.mp4"
        path = path.with_name(name)  # what others have put there stays
        assert await client.submit("a fox", key="fox") == path
    assert path.read_bytes() == content
    assert service.submits == 1
    assert service.row("fox").status is JobStatus.COMPLETED


async def test_a_clip_whose_task_is_gone_raises_every_time(service: Service) -> None:
    """Without file, URL and task, the error says so and names the task. Nothing is sent."""
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    path.unlink()
    service.sandbox._runner.tasks.clear()
    for _ in range(2):
        async with service.client() as client:
            with pytest.raises(DownloadError, match=r"no working download URL.*task not found") as caught:
                await client.submit("a fox", key="fox")
    assert str(service.row("fox").task_id) in str(caught.value)
    assert service.row("fox").status is JobStatus.DOWNLOAD_FAILED
    assert service.submits == 1


async def test_a_moved_folder_is_recognized(service: Service) -> None:
    """If clips and ledger are moved together, nothing is downloaded or sent, in any later run."""
    async with service.client() as client:
        await client.submit("a fox", key="fox")
    moved = service.folder.with_name("moved")
    shutil.move(service.folder, moved)
    service.folder = moved
    for _ in range(2):
        async with service.client() as client:
            assert await client.submit("a fox", key="fox") == moved / "fox.mp4"
    assert service.sandbox.record.downloads == 1
    assert service.row("fox").paths == (str(moved / "fox.mp4"),)


async def test_a_failed_job_is_not_resubmitted_automatically(service: Service) -> None:
    """A second run raises the same error, with the server's message, and sends nothing."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    texts = set()
    for _ in range(2):
        async with service.client() as client:
            with pytest.raises(JobFailed, match="failed on the server") as caught:
                await client.submit("a fox", key="fox")
            texts.add(str(caught.value))
            assert caught.value.task_id is not None
    assert len(texts) == 1
    assert service.submits == 1


async def test_without_a_ledger_every_run_pays(service: Service) -> None:
    """`ledger=None` writes no file, and the next run submits again. It keeps the clip of the first."""
    for _ in range(2):
        async with service.client(ledger=None) as client:
            await client.submit("a fox", key="fox")
    assert service.submits == 2
    assert sorted(each.name for each in service.folder.iterdir()) == ["fox-new.mp4", "fox.mp4"]


async def test_a_ledger_can_be_outside_the_output_folder(service: Service, tmp_path: Path) -> None:
    """`ledger=` names a file, whose folder is created."""
    path = tmp_path / "ledgers" / "of" / "2026.db"
    for _ in range(2):
        async with service.client(ledger=path) as client:
            await client.submit("a fox", key="fox")
    assert service.submits == 1
    assert path.is_file()
    assert not list(Path(service.folder).glob("ledger*"))
