"""A sandbox starts and closes without leaving anything behind, and never blocks its event loop."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from omni_async.sandbox import Sandbox, SandboxSettings
from tests.support.sandbox_client import link_of, open_sandbox


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the folders of other sandboxes on this machine out of sight."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def folders() -> set[Path]:
    """Return the temporary folders of sandboxes."""
    return set(Path(tempfile.gettempdir()).glob("omni-async-sandbox-*"))


def descriptors() -> int:
    """Return the number of open files and sockets of this process."""
    return len(list(Path("/dev/fd").iterdir()))


async def test_closing_leaves_nothing_behind() -> None:
    """No task, thread, socket or folder remains, even if the sandbox is closed while tasks and downloads run."""
    async with open_sandbox(prerendered=False):
        pass  # Python has now opened what it opens once and keeps
    before = folders(), descriptors(), threading.active_count(), asyncio.all_tasks()
    session = aiohttp.ClientSession()
    async with open_sandbox(prerendered=False, seconds=3, faults={"stall_download": 1.0}) as client:
        stalled = await session.get(await client.link("done"))
        for number in range(5):
            await client.accepted(f"running {number}", webhook="http://127.0.0.1:9/unused")
        await asyncio.sleep(0.1)
        base_url = client.sandbox.base_url
        start = time.monotonic()
    assert time.monotonic() - start < 5
    with pytest.raises(aiohttp.ClientPayloadError):
        await stalled.read()
    await session.close()
    await asyncio.sleep(0.05)
    assert (folders(), asyncio.all_tasks()) == (before[0], before[3])
    assert threading.active_count() <= before[2]
    assert descriptors() <= before[1]
    host, port = base_url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


async def test_an_exception_in_the_block_closes_the_sandbox() -> None:
    """The exception propagates, and the sandbox no longer serves."""
    with pytest.raises(ZeroDivisionError):
        async with Sandbox() as sandbox:
            _ = 1 / 0
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(sandbox.base_url)


@pytest.mark.slow
async def test_rendering_does_not_block_the_event_loop() -> None:
    """While clips are rendered, the longest pause of the loop is a fraction of the rendering time."""
    longest, last = 0.0, time.perf_counter()

    async def pulse() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    async with open_sandbox(prerendered=False, median=0.0, seconds=4) as client:
        start = time.perf_counter()
        last = start
        beat = asyncio.create_task(pulse())
        ids = [await client.accepted(f"clip {number}") for number in range(3)]
        for task_id in ids:
            await client.ended(task_id)
        elapsed = time.perf_counter() - start
        beat.cancel()
    assert longest < elapsed / 6, f"blocked for {longest * 1000:.0f} ms of {elapsed * 1000:.0f}"


@pytest.mark.slow
async def test_a_task_is_processing_until_its_clip_is_rendered() -> None:
    """A task whose duration is over stays in processing until its clip exists."""
    async with open_sandbox(prerendered=False, median=0.0, seconds=3) as client:
        task_id = await client.accepted()
        assert (await client.check(task_id)).json["data"]["status"] == "processing"
        assert (await client.fetch(link_of(await client.ended(task_id)))).status == 200


async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without av or pillow, opening a sandbox raises an error that says what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else find(name, *rest))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'omni-async\[media\]'"):
        async with Sandbox():
            pass


@pytest.mark.slow
async def test_a_rendering_process_that_dies_fails_only_its_task() -> None:
    """The task fails, and the next one gets a new process."""
    async with open_sandbox(prerendered=False, median=0.0, seconds=3) as client:
        await client.completed("first")
        (worker,) = client.sandbox._renderer._idle
        worker._process.kill()
        lost = await client.ended(await client.accepted("second"))
        assert lost["status"] == "failed"
        assert "rendering process ended" in lost["error"]["message"]
        await client.completed("third")


async def test_durations_follow_speed_and_seed() -> None:
    """Speed divides durations and estimates. The same seed gives the same durations and lengths."""

    async def durations(**options: Any) -> tuple[list[float], list[int], int]:
        async with open_sandbox(**({"median": 8.0, "sigma": 0.5} | options)) as client:
            ids = [await client.accepted(f"{number}") for number in range(3)]
            estimate = (await client.check(ids[0])).json["data"]["estimated_time"]
            tasks = [client.sandbox._runner.tasks[task_id] for task_id in ids]
            return [round(task.due - task.started, 6) for task in tasks], [task.seconds for task in tasks], estimate

    plain, again, fast, other = (
        await durations(),
        await durations(),
        await durations(speed=4.0),
        await durations(seed=1),
    )
    assert plain == again != other
    assert fast[0] == pytest.approx([each / 4 for each in plain[0]], abs=1e-5)
    assert (plain[2], fast[2]) == (12, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"per_minute": 0},
        {"burst": 0},
        {"median": -1},
        {"median": float("nan")},
        {"median": None},
        {"seconds": 2},
        {"fail_rate": 1.5},
        {"port": 70000},
        {"window": (0, 10)},
        {"window": 5},
        {"retry_after": "never"},
        {"submit_shape": "tuple"},
        {"videos_per_task": 0},
        {"api_key": ""},
        {"seed": 1.5},
        {"prerendered": "yes"},
        {"faults": {"http_500": 2}},
        {"faults": {"earthquake": 0.1}},
    ],
    ids=str,
)
def test_settings_are_checked(options: dict[str, Any]) -> None:
    """An invalid setting raises a ValueError that names it."""
    with pytest.raises(ValueError, match=next(iter(options))):
        SandboxSettings(**options)


def test_settings_survive_json() -> None:
    """Settings are equal after a round trip through JSON, and cannot be changed."""
    settings = SandboxSettings(per_minute=60, window=(5, 1.5), faults={"http_500": 0.1}, api_key="k")
    assert SandboxSettings(**settings.to_json()) == settings
    with pytest.raises(AttributeError):
        settings.port = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.faults["http_503"] = 1.0  # type: ignore[index]


async def test_urls_carry_the_host_that_the_client_used() -> None:
    """A sandbox that listens on every address returns URLs with the host of the request."""
    async with open_sandbox(host="0.0.0.0") as client:
        assert client.sandbox.base_url.startswith("http://127.0.0.1:")
        task_id = await client.accepted()
        await client.ended(task_id)
        client.sandbox.base_url = client.sandbox.base_url.replace("127.0.0.1", "localhost")
        video = (await client.check(task_id)).json["data"]["result"]["videos"][0]
        assert video["url"][0].startswith("http://localhost:")
        assert (await client.fetch(video["url"][0])).status == 200
