"""Each program in examples/ works as it is, as a process, with a sandbox that renders real clips."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.ports import free_port
from tests.support.processes import ROOT, assert_plays, clips_in, finish, start_python, task_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EXAMPLES = ROOT / "examples"
TESTED = {
    "testing/storyboard.py",
    "testing/test_storyboard.py",
    "one_clip.py",
    "many_clips.py",
    "notebook.ipynb",
    "fastapi_app.py",
    "inside_a_web_app.py",
    "paper-boat.jpg",
    "prompts.jsonl",
    "vbench.py",
    "webhooks.py",
}


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxProcess]:
    """Start a sandbox that renders every clip and accepts one API key."""
    async with SandboxProcess(median=0.3, seconds=3, api_key="sk-of-the-reader") as process:
        yield process


def variables(sandbox: SandboxProcess) -> dict[str, str]:
    """Return the two environment variables that `omni-async sandbox` asks to set."""
    return {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}


async def tasks_of(sandbox: SandboxProcess) -> dict[str, dict[str, Any]]:
    """Return the sandbox's tasks by id."""
    return {task["task_id"]: task for task in (await sandbox.record())["tasks"].values()}


def test_every_example_has_a_test() -> None:
    """Every file in examples/ is used by a test of this folder or of tests/testing."""
    assert {
        path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.suffix not in {".pyc", ""}
    } == TESTED


@pytest.mark.slow
async def test_one_clip(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`one_clip.py` prints the task, then the file, its size and its price; the file is the clip of that prompt."""
    program = await start_python(tmp_path, str(EXAMPLES / "one_clip.py"), "a fox in the rain", **variables(sandbox))
    status, out, err = await finish(program)
    assert (status, err) == (0, "")
    ((task_id, task),) = (await tasks_of(sandbox)).items()
    assert task["prompt"] == "a fox in the rain"
    ((found, path),) = clips_in(tmp_path / "clips").items()
    assert found == task_id
    assert_plays(path)
    assert out.splitlines() == [
        f"'a fox in the rain' was accepted as task {task_id}",
        f"{path}: {path.stat().st_size:,} bytes, {task['cost']} USD",
    ]


@pytest.mark.slow
async def test_many_clips(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`many_clips.py 5` prints five files as they are done, then the totals; each is the clip of another prompt."""
    status, out, err = await finish(
        await start_python(tmp_path, str(EXAMPLES / "many_clips.py"), "5", **variables(sandbox)),
    )
    assert (status, err) == (0, "")
    tasks, clips = await tasks_of(sandbox), clips_in(tmp_path / "clips")
    assert tasks.keys() == clips.keys()
    assert {int(re.findall(r"take (\d+)", task["prompt"])[0]) for task in tasks.values()} == {1, 2, 3, 4, 5}
    for task_id, path in clips.items():
        assert_plays(path, tasks[task_id]["body"]["aspect_ratio"])
    *printed, total = out.splitlines()
    assert set(printed) == {str(path) for path in clips.values()}
    assert total == f"5 clips, 0 failed, {sum(task['cost'] for task in tasks.values()):.2f} USD"


@pytest.mark.slow
async def test_vbench(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`vbench.py` makes five clips of each prompt under the names that the benchmark looks for, and again none."""
    prompts = ["a person swimming in ocean", "A cat, in cyberpunk style: close-up"]
    (tmp_path / "all_dimension.txt").write_text("\n".join(prompts) + "\n", "utf-8")
    arguments = (str(EXAMPLES / "vbench.py"), "all_dimension.txt", "videos")
    for _ in range(2):
        status, out, err = await finish(await start_python(tmp_path, *arguments, **variables(sandbox)))
        assert (status, err) == (0, "")
        assert out.splitlines() == [
            "10 clips will cost $2.64 to $8.80 by the price list",
            "10 of 10 clips are in videos",
        ]
        tasks, clips = await tasks_of(sandbox), clips_in(tmp_path / "videos")
        assert tasks.keys() == clips.keys()
        names = {f"{prompt.replace(':', '_')}-{index}.mp4" for prompt in prompts for index in range(5)}
        assert {path.name for path in clips.values()} == names
        for task_id, path in clips.items():
            assert path.name.startswith(tasks[task_id]["prompt"][:20])


@pytest.mark.slow
async def test_inside_a_web_app(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """The web application accepts requests, reports their status, and serves each clip when it is done.

    A visitor who disconnects affects no job. SIGTERM ends it within seconds, without an error, even with an unfinished
    clip. After a restart, the unfinished clip is continued.
    """
    async with web_app(sandbox, tmp_path) as visitor:
        await assert_serves_clips(visitor, tmp_path)
        await sandbox.script("check", ["http_502_check"] * 2)
        unfinished = await submitted(visitor, prompt="a clip that takes a while")
    async with web_app(sandbox, tmp_path) as visitor, visitor.get(f"/clips/{unfinished}.mp4") as response:
        assert response.status == 200
        (tmp_path / "got.mp4").write_bytes(await response.read())
    assert_plays(tmp_path / "got.mp4")


@pytest.mark.slow
async def test_webhooks(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """`webhooks.py` generates its clips, and its webhook is called once for each of them."""
    address, port = "http://127.0.0.1:{0}/omni", str(free_port())
    program = await start_python(
        tmp_path, str(EXAMPLES / "webhooks.py"), address.format(port), port, **variables(sandbox)
    )
    status, out, err = await finish(program)
    assert (status, err) == (0, "")
    clips = clips_in(tmp_path / "clips")
    assert (await tasks_of(sandbox)).keys() == clips.keys()
    *printed, total = out.splitlines()
    assert set(printed) == {str(path) for path in clips.values()}
    assert re.fullmatch(r"3 clips, \d+ checks", total)
    called = (await sandbox.record())["webhooks"]
    assert sorted(task_id for task_id, _, status in called if status == 204) == sorted(clips)


@asynccontextmanager
async def web_app(sandbox: SandboxProcess, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Run the web application and yield a visitor's session. SIGTERM must then end it without an error."""
    port = free_port()
    program = await start_python(folder, str(EXAMPLES / "inside_a_web_app.py"), str(port), **variables(sandbox))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as visitor:
            await wait_until_it_serves(visitor)
            yield visitor
    finally:
        program.send_signal(signal.SIGTERM)
        status, _, err = await finish(program)
    assert (status, err) == (0, "")


async def assert_serves_clips(visitor: aiohttp.ClientSession, folder: Path) -> None:
    """Raise AssertionError unless the web application does what a visitor may expect."""
    apple = await submitted(visitor, prompt="a red apple", aspect_ratio="9:16")
    with pytest.raises(TimeoutError):  # the visitor disconnects
        await visitor.get(f"/clips/{apple}.mp4", timeout=aiohttp.ClientTimeout(total=0.05))
    async with visitor.get(f"/clips/{apple}.mp4") as response:
        assert (response.status, response.content_type) == (200, "video/mp4")
        path = folder / "got.mp4"
        path.write_bytes(await response.read())
    assert_plays(path, "9:16")
    async with visitor.get(f"/clips/{apple}") as response:
        status = await response.json()
    assert (status["status"], status["task_id"]) == ("completed", task_of(path))
    async with visitor.get("/clips/none") as response:
        assert response.status == 404
    async with visitor.post("/clips", json={"prompt": ""}) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def submitted(visitor: aiohttp.ClientSession, **fields: str) -> str:
    """Submit a request and return the key of its job."""
    async with visitor.post("/clips", data=json.dumps(fields)) as response:
        assert response.status == 202
        return str((await response.json())["key"])


async def wait_until_it_serves(visitor: aiohttp.ClientSession) -> None:
    """Wait until the application responds."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with visitor.get("/clips/none"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
