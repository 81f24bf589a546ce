"""Each program of examples/ works as it stands, as a process, on a sandbox that makes real clips."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.processes import ROOT, assert_plays, clips_in, ended, started, task_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EXAMPLES = ROOT / "examples"
TESTED = {
    "testing/storyboard.py",
    "testing/test_storyboard.py",
    "one_clip.py",
    "many_clips.py",
    "inside_a_web_app.py",
    "paper-boat.jpg",
    "prompts.jsonl",
    "webhooks.py",
}


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxProcess]:
    """A sandbox that renders every clip, and knows one key."""
    async with SandboxProcess(median=0.3, seconds=3, api_key="sk-of-the-reader") as process:
        yield process


def variables(sandbox: SandboxProcess) -> dict[str, str]:
    """Give the two variables that `omni-async sandbox` tells its reader to set."""
    return {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}


async def made(sandbox: SandboxProcess) -> dict[str, dict[str, Any]]:
    """Give the sandbox's tasks by their ids."""
    return {task["task_id"]: task for task in (await sandbox.record())["tasks"].values()}


def test_every_example_is_run() -> None:
    """What lies in examples/ is run by a test here or beside."""
    assert {
        path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.suffix not in {".pyc", ""}
    } == TESTED


@pytest.mark.slow
async def test_one_clip(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`one_clip.py` tells the task, then the file, its size and its price; the file is the clip of that prompt."""
    program = await started(tmp_path, str(EXAMPLES / "one_clip.py"), "a fox in the rain", **variables(sandbox))
    status, out, err = await ended(program)
    assert (status, err) == (0, "")
    ((task_id, task),) = (await made(sandbox)).items()
    assert task["prompt"] == "a fox in the rain"
    ((found, path),) = clips_in(tmp_path / "clips").items()
    assert found == task_id
    assert_plays(path)
    assert out.splitlines() == [
        f"'a fox in the rain' is on its way as task {task_id}",
        f"{path.relative_to(tmp_path)}: {path.stat().st_size:,} bytes, {task['cost']} USD",
    ]


@pytest.mark.slow
async def test_many_clips(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`many_clips.py 5` tells five files as they are done, then the sum; each is the clip of another prompt."""
    status, out, err = await ended(
        await started(tmp_path, str(EXAMPLES / "many_clips.py"), "5", **variables(sandbox)),
    )
    assert (status, err) == (0, "")
    tasks, clips = await made(sandbox), clips_in(tmp_path / "clips")
    assert tasks.keys() == clips.keys()
    assert {int(re.findall(r"take (\d+)", task["prompt"])[0]) for task in tasks.values()} == {1, 2, 3, 4, 5}
    for task_id, path in clips.items():
        assert_plays(path, tasks[task_id]["body"]["aspect_ratio"])
    *told, total = out.splitlines()
    assert set(told) == {str(path.relative_to(tmp_path)) for path in clips.values()}
    assert total == f"5 clips, 0 failed, {sum(task['cost'] for task in tasks.values()):.2f} USD"


@pytest.mark.slow
async def test_inside_a_web_app(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """The web application takes orders, tells how they stand, and serves each clip to whoever waits for it.

    A visitor who hangs up harms nobody; SIGTERM ends it at once, also with a clip unfinished, and without a complaint.
    Started again, it still has what was unfinished.
    """
    async with web_app(sandbox, tmp_path) as visitor:
        await is_a_good_shop(visitor, tmp_path)
        await sandbox.script("check", ["http_502_check"] * 2)
        unfinished = await ordered(visitor, prompt="one that is not done at once")
    async with web_app(sandbox, tmp_path) as visitor, visitor.get(f"/clips/{unfinished}.mp4") as answer:
        assert answer.status == 200
        (tmp_path / "got.mp4").write_bytes(await answer.read())
    assert_plays(tmp_path / "got.mp4")


@pytest.mark.slow
async def test_webhooks(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`webhooks.py` makes its clips, and is called once for each of them."""
    address, port = "http://127.0.0.1:{0}/omni", str(free_port())
    program = await started(tmp_path, str(EXAMPLES / "webhooks.py"), address.format(port), port, **variables(sandbox))
    status, out, err = await ended(program)
    assert (status, err) == (0, "")
    clips = clips_in(tmp_path / "clips")
    assert (await made(sandbox)).keys() == clips.keys()
    *told, total = out.splitlines()
    assert set(told) == {str(path.relative_to(tmp_path)) for path in clips.values()}
    assert re.fullmatch(r"3 clips, \d+ checks", total)
    called = (await sandbox.record())["webhooks"]
    assert sorted(task_id for task_id, _, status in called if status == 204) == sorted(clips)


@asynccontextmanager
async def web_app(sandbox: SandboxProcess, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Run the web application, which SIGTERM then has to end without a complaint; gives a visitor."""
    port = free_port()
    program = await started(folder, str(EXAMPLES / "inside_a_web_app.py"), str(port), **variables(sandbox))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as visitor:
            await until_it_serves(visitor)
            yield visitor
    finally:
        program.send_signal(signal.SIGTERM)
        status, _, err = await ended(program)
    assert (status, err) == (0, "")


async def is_a_good_shop(visitor: aiohttp.ClientSession, folder: Path) -> None:
    """What a visitor of the web application may expect of it."""
    apple = await ordered(visitor, prompt="a red apple", aspect_ratio="9:16")
    with pytest.raises(TimeoutError):  # hangs up
        await visitor.get(f"/clips/{apple}.mp4", timeout=aiohttp.ClientTimeout(total=0.05))
    async with visitor.get(f"/clips/{apple}.mp4") as answer:
        assert (answer.status, answer.content_type) == (200, "video/mp4")
        path = folder / "got.mp4"
        path.write_bytes(await answer.read())
    assert_plays(path, "9:16")
    async with visitor.get(f"/clips/{apple}") as answer:
        stands = await answer.json()
    assert (stands["status"], stands["task_id"]) == ("completed", task_of(path))
    async with visitor.get("/clips/none") as answer:
        assert answer.status == 404
    async with visitor.post("/clips", json={"prompt": ""}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]


async def ordered(visitor: aiohttp.ClientSession, **fields: str) -> str:
    """Order a clip, and give its key."""
    async with visitor.post("/clips", data=json.dumps(fields)) as answer:
        assert answer.status == 202
        return str((await answer.json())["key"])


async def until_it_serves(visitor: aiohttp.ClientSession) -> None:
    """Wait until somebody answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with visitor.get("/clips/none"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


def free_port() -> int:
    """Give a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
