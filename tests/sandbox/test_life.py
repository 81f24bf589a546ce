"""A sandbox comes and goes without a trace, and never keeps its event loop waiting."""

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
from tests.support.talk import link_of, talking


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sandboxes on this machine must not be mistaken for ours."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def folders() -> set[Path]:
    """The temporary folders of sandboxes."""
    return set(Path(tempfile.gettempdir()).glob("omni-async-sandbox-*"))


def descriptors() -> int:
    """Open files and sockets of this process."""
    return len(list(Path("/dev/fd").iterdir()))


async def test_nothing_is_left_behind() -> None:
    """No task, thread, socket or folder outlives a sandbox, even one that is left in the middle of everything."""
    async with talking(prerendered=False):
        pass  # what Python itself opens once and keeps is open now
    before = folders(), descriptors(), threading.active_count(), asyncio.all_tasks()
    session = aiohttp.ClientSession()
    async with talking(prerendered=False, seconds=3, faults={"stall_download": 1.0}) as talk:
        stalled = await session.get(await talk.link("done"))
        for number in range(5):
            await talk.accepted(f"under way {number}", webhook="http://127.0.0.1:9/nobody")
        await asyncio.sleep(0.1)
        base_url = talk.sandbox.base_url
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


async def test_a_failing_body_closes_it_too() -> None:
    """An exception within the block goes through, and the sandbox is closed."""
    with pytest.raises(ZeroDivisionError):
        async with Sandbox() as sandbox:
            _ = 1 / 0
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(sandbox.base_url)


async def test_rendering_does_not_hold_up_the_loop() -> None:
    """While films are made, the loop of the sandbox goes on: its longest silence is a fraction of their making."""
    longest, last = 0.0, time.perf_counter()

    async def pulse() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    async with talking(prerendered=False, median=0.0, seconds=4) as talk:
        start = time.perf_counter()
        last = start
        beat = asyncio.create_task(pulse())
        ids = [await talk.accepted(f"film {number}") for number in range(3)]
        for task_id in ids:
            await talk.ended(task_id)
        took = time.perf_counter() - start
        beat.cancel()
    assert longest < took / 6, f"silent for {longest * 1000:.0f} ms of {took * 1000:.0f}"


async def test_a_task_is_completed_only_with_its_clip() -> None:
    """A task whose time is over goes on processing until its film is made."""
    async with talking(prerendered=False, median=0.0, seconds=3) as talk:
        task_id = await talk.accepted()
        assert (await talk.check(task_id)).json["data"]["status"] == "processing"
        assert (await talk.fetch(link_of(await talk.ended(task_id)))).status == 200


async def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without av or pillow a sandbox says what to install before it starts."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else find(name, *rest))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'omni-async\[media\]'"):
        async with Sandbox():
            pass


async def test_a_worker_that_dies_fails_its_task_only() -> None:
    """When the process that renders is gone, its task fails and the next has a new one."""
    async with talking(prerendered=False, median=0.0, seconds=3) as talk:
        await talk.completed("first")
        (worker,) = talk.sandbox._renderer._idle
        worker._process.kill()
        lost = await talk.ended(await talk.accepted("second"))
        assert lost["status"] == "failed"
        assert "process that renders ended" in lost["error"]["message"]
        await talk.completed("third")


async def test_speed_and_seed() -> None:
    """Speed divides the times of tasks and their estimates; the same seed gives the same times and lengths."""

    async def durations(**knobs: Any) -> tuple[list[float], list[int], int]:
        async with talking(**({"median": 8.0, "sigma": 0.5} | knobs)) as talk:
            ids = [await talk.accepted(f"{number}") for number in range(3)]
            estimate = (await talk.check(ids[0])).json["data"]["estimated_time"]
            tasks = [talk.sandbox._runner.tasks[task_id] for task_id in ids]
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
    "knobs",
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
def test_settings_are_checked(knobs: dict[str, Any]) -> None:
    """A wrong knob is a ValueError that names it."""
    with pytest.raises(ValueError, match=next(iter(knobs))):
        SandboxSettings(**knobs)


def test_settings_travel_as_json() -> None:
    """Settings survive the way to another process, and cannot be changed."""
    settings = SandboxSettings(per_minute=60, window=(5, 1.5), faults={"http_500": 0.1}, api_key="k")
    assert SandboxSettings(**settings.to_json()) == settings
    with pytest.raises(AttributeError):
        settings.port = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.faults["http_503"] = 1.0  # type: ignore[index]


async def test_a_server_for_everybody_is_reached_by_the_name_it_is_called() -> None:
    """Listening on every address, its links carry the host name that the client used."""
    async with talking(host="0.0.0.0") as talk:
        assert talk.sandbox.base_url.startswith("http://127.0.0.1:")
        task_id = await talk.accepted()
        await talk.ended(task_id)
        talk.sandbox.base_url = talk.sandbox.base_url.replace("127.0.0.1", "localhost")
        video = (await talk.check(task_id)).json["data"]["result"]["videos"][0]
        assert video["url"][0].startswith("http://localhost:")
        assert (await talk.fetch(video["url"][0])).status == 200
