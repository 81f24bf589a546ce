"""The notebook in examples/ is executed, cell by cell, by a real kernel with a sandbox that renders real clips."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.notebooks import (
    empty_notebook,
    error_of,
    outputs_of,
    read_notebook,
    running_notebook,
)
from tests.support.processes import ROOT, assert_plays

pytestmark = pytest.mark.slow

OPEN = """
import asyncio
from omni_async import OmniClient
from omni_async.progress import ProgressDisplay
client = await OmniClient(output_dir="clips", on_event=ProgressDisplay()).open()
"""


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxProcess]:
    """Start a sandbox that renders every clip and accepts one API key."""
    async with SandboxProcess(median=1.0, seconds=3, api_key="sk-of-the-reader") as process:
        yield process


def variables(sandbox: SandboxProcess) -> dict[str, str]:
    """Return the two environment variables that `omni-async sandbox` asks to set."""
    return {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}


def videos_in(cell: Any) -> list[bytes]:
    """Return the videos that a cell shows."""
    html = "".join(outputs_of(cell, "text/html"))
    return [base64.b64decode(data) for data in re.findall(r'<video src="data:video/mp4;base64,([^"]*)"', html)]


async def test_the_notebook(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """Every cell runs: a status, a video, a display of the cell's own jobs, and a clip that continues another."""
    content = read_notebook(ROOT / "examples" / "notebook.ipynb")
    assert not any(cell.get("outputs") for cell in content.cells)
    clips = tmp_path / "clips"
    async with running_notebook(content, tmp_path, variables(sandbox)) as notebook:
        assert "OmniClient open" in outputs_of(await notebook.run(), "text/plain")[0]
        assert "<b>apple</b>" in outputs_of(await notebook.run(), "text/html")[-1]
        assert videos_in(await notebook.run()) == [(clips / "apple.mp4").read_bytes()]
        several = await notebook.run()
        assert re.search(r"<b>[1-4]/4</b>", outputs_of(several, "text/html")[0]), outputs_of(several, "text/html")
        assert len(outputs_of(several, "text/plain")) == 2  # one display that changed, and the paths
        (fox,) = videos_in(await notebook.run())
        assert fox == (clips / "a fox in the snow.mp4").read_bytes()
        assert videos_in(await notebook.run()) == [(clips / "snow.mp4").read_bytes()]
        assert "completed=6" in outputs_of(await notebook.run(), "text/plain")[0]
        assert not error_of(await notebook.run())
    assert_plays(clips / "apple.mp4")
    assert_plays(clips / "a fox in the snow.mp4", "9:16")
    tasks = (await sandbox.record())["tasks"]
    assert len(tasks) == 6


async def test_a_cell_that_opens_a_client_can_be_run_again(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """It says how to close the old client, which is still open; after that it works, and nothing is paid again."""
    async with running_notebook(empty_notebook(), tmp_path, variables(sandbox)) as notebook:
        assert not error_of(await notebook.run(OPEN))
        assert not error_of(await notebook.run('job = client.submit("a fox", key="fox")'))
        again = await notebook.run(OPEN, may_fail=True)
        assert "LedgerLocked" in error_of(again)
        assert "await client.aclose()" in error_of(again)
        assert not error_of(await notebook.run("await client.aclose()"))
        assert not error_of(await notebook.run(OPEN))
        clip = await notebook.run('await client.submit("a fox", key="fox")')
        assert videos_in(clip) == [(tmp_path / "clips" / "fox.mp4").read_bytes()]
        await notebook.run("await client.aclose()")
    assert len((await sandbox.record())["tasks"]) == 1


async def test_an_interrupted_cell_cancels_no_job(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """The button ends the waiting of a cell; the client works on, and the next cell gets the clip."""
    await sandbox.script("check", ["http_502_check"] * 3)
    async with running_notebook(empty_notebook(), tmp_path, variables(sandbox)) as notebook:
        await notebook.run(OPEN)
        waiting = asyncio.create_task(notebook.run('job = client.submit("a fox")\nawait job', may_fail=True))
        await asyncio.sleep(1.0)
        await notebook.interrupt()
        assert re.match("KeyboardInterrupt|CancelledError", error_of(await waiting))
        assert "False" in outputs_of(await notebook.run("job.done()"), "text/plain")[0]
        assert len(videos_in(await notebook.run("await job"))) == 1
        await notebook.run("await client.aclose()")
    assert len((await sandbox.record())["tasks"]) == 1


async def test_a_display_belongs_to_the_cell_that_submits(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """Not to the cell that opened the client: each cell with jobs has one display, which ends with all of them done."""
    async with running_notebook(empty_notebook(), tmp_path, variables(sandbox)) as notebook:
        opened = await notebook.run(OPEN)
        for number in (1, 2):
            prompts = [f"fox {number} {each}" for each in range(number + 1)]
            cell = await notebook.run(
                f"await asyncio.gather(*map(client.submit, {prompts}))\nawait asyncio.sleep(2)  # the display ends"
            )
            (text,) = outputs_of(cell, "text/plain")
            assert text.startswith(f"{number + 1} of {number + 1} done, $")
            assert "left" not in text
        assert outputs_of(opened, "text/html") == []
        await notebook.run("await client.aclose()")
