"""The FastAPI service in examples/, run by uvicorn: killed, stopped and started again, it loses no job."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.ports import free_port
from tests.support.processes import ROOT, assert_plays, clips_in, finish, start_python, task_of

pytest.importorskip("fastapi", reason="the service needs fastapi (the extra `dev`)")
pytest.importorskip("uvicorn", reason="the service is run by uvicorn (the extra `dev`)")
httpx = pytest.importorskip("httpx", reason="the service is called with httpx (the extra `dev`)")

pytestmark = pytest.mark.slow

SECONDS = 10.0  # what "within seconds" means, on a busy machine


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxProcess]:
    """Start a sandbox that renders every clip and accepts one API key."""
    async with SandboxProcess(median=1.5, seconds=3, api_key="sk-of-the-reader") as process:
        yield process


class Service:
    """The service as a process in a folder; each start uses the same port."""

    def __init__(self, folder: Path, sandbox: SandboxProcess) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None
        self._variables = {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}

    async def spawn(self, port: int) -> asyncio.subprocess.Process:
        """Start a process and do not wait until it serves."""
        arguments = ("uvicorn", "fastapi_app:app", "--app-dir", str(ROOT / "examples"), "--port", str(port))
        return await start_python(self.folder, "-m", *arguments, **self._variables)

    async def start(self) -> Any:
        """Start the service and return an HTTP client for it."""
        self.process = await self.spawn(self.port)
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        async with asyncio.timeout(60):
            while True:
                try:
                    await client.get("/clips/none")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    return client

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        await finish(self.process)

    async def stop(self) -> str:
        """Stop it as systemd or a container does. Return its log, after making sure that it ended in good order."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status, _, log = await finish(self.process)
        assert time.monotonic() - began < SECONDS
        assert status in {0, -signal.SIGTERM}, log
        assert "Application shutdown complete" in log
        assert "Traceback" not in log
        return log


@pytest.fixture
async def service(tmp_path: Path, sandbox: SandboxProcess) -> AsyncIterator[Service]:
    """Return a service that is not started; what is left of it at the end is killed."""
    service = Service(tmp_path, sandbox)
    yield service
    if service.process is not None and service.process.returncode is None:
        await service.kill()


async def posted(client: Any, **fields: str) -> str:
    """Submit a request and return the key of its job."""
    response = await client.post("/clips", json=fields)
    assert response.status_code == 202, response.text
    return str(response.json()["key"])


async def completed(client: Any, key: str) -> dict[str, Any]:
    """Wait until a job is completed, and return its state."""
    async with asyncio.timeout(60):
        while True:
            response = await client.get(f"/clips/{key}")
            assert response.status_code == 200, response.text
            state: dict[str, Any] = response.json()
            if state["status"] == "completed":
                return state
            assert state["status"] in {"waiting", "submitting", "running", "downloading"}, state
            await asyncio.sleep(0.1)


async def test_it_serves_clips(service: Service) -> None:
    """State and clip of a job, and clear answers to what cannot be."""
    client = await service.start()
    key = await posted(client, prompt="a red apple", aspect_ratio="9:16", id="apple")
    assert key == "apple"
    assert (await client.get("/clips/apple/video")).status_code == 409
    state = await completed(client, key)
    response = await client.get("/clips/apple/video")
    assert (response.status_code, response.headers["content-type"]) == (200, "video/mp4")
    path = service.folder / "got.mp4"
    path.write_bytes(response.content)
    assert_plays(path, "9:16")
    assert (task_of(path), state["cost"] > 0) == (state["task_id"], True)
    assert (await client.get("/clips/none")).status_code == 404
    assert (await client.get("/clips/none/video")).status_code == 404
    for fields in (
        {"prompt": ""},
        {"prompt": "p", "aspect_ratio": "7:5"},
        {"prompt": "p", "id": "../x"},
        {"prompt": "p", "images": ["/etc/hostname"]},
        {"prompt": "nul \0"},
    ):
        assert (await client.post("/clips", json=fields)).status_code == 422, fields
    assert (await client.post("/clips", json={"prompt": "a pear", "id": "apple"})).status_code == 409
    await client.aclose()
    await service.stop()


async def test_killed_and_stopped_in_the_middle_it_loses_nothing(service: Service, sandbox: SandboxProcess) -> None:
    """Every job that was answered with 202 gets its clip, also of the moment before SIGKILL; each is paid once."""
    keys: list[str] = []
    for number in range(3):
        client = await service.start()
        keys += await asyncio.gather(*(posted(client, prompt=f"fox {number} {each}") for each in range(6)))
        await asyncio.sleep(0.6 * number)  # the first time not even the submits are over
        if number < 2:
            await service.kill()
        else:
            await service.stop()
        await client.aclose()
    client = await service.start()
    states = [await completed(client, key) for key in keys]
    assert len({state["task_id"] for state in states}) == len(keys) == 18
    tasks = (await sandbox.record())["tasks"]
    assert len(tasks) == 18
    assert clips_in(service.folder / "clips").keys() == {task["task_id"] for task in tasks.values()}
    await client.aclose()
    await service.stop()


async def test_a_post_can_be_repeated(service: Service, sandbox: SandboxProcess) -> None:
    """A caller who does not know whether the POST arrived sends it again, before and after a crash: one clip."""
    client = await service.start()
    for _ in range(2):
        assert await posted(client, prompt="a fox", id="fox") == "fox"
    await service.kill()
    await client.aclose()
    client = await service.start()
    assert await posted(client, prompt="a fox", id="fox") == "fox"
    await completed(client, "fox")
    assert await posted(client, prompt="a fox", id="fox") == "fox"
    await completed(client, "fox")
    assert len((await sandbox.record())["tasks"]) == 1
    await client.aclose()
    await service.stop()


async def test_a_second_process_says_what_is_wrong(service: Service) -> None:
    """It does not start, and names the process that has the ledger, which is not disturbed."""
    client = await service.start()
    assert service.process is not None
    status, _, log = await finish(await service.spawn(free_port()))
    assert status == 3  # uvicorn: the application could not start
    assert f"in use by process {service.process.pid}" in log
    assert "one worker" in log
    await completed(client, await posted(client, prompt="a fox"))
    await client.aclose()
    await service.stop()
