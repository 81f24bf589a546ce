"""A sandbox in a process of its own serves like any other, and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

import omni_async.sandbox
from omni_async.sandbox import Sandbox, SandboxProcess, SandboxSettings, serve
from tests.support.sandbox_client import SandboxClient

ROOT = Path(omni_async.sandbox.__file__).parents[2]
TIMEOUT = 20.0
QUICK: dict[str, Any] = {"median": 0.0, "sigma": 0.0, "seconds": 3}

PARENT = """
import asyncio, signal, sys
from omni_async.sandbox import SandboxProcess

async def main():
    async with SandboxProcess(median=0.0, sigma=0.0, seconds=3) as sandbox:
        print(sandbox.pid, sandbox.base_url, flush=True)
        loop, pressed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGINT, pressed.set)
        await asyncio.wait_for(pressed.wait(), 60)
        print((await sandbox.record())["accepted"], flush=True)

asyncio.run(main())
"""


async def python(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """Start Python with pipes for its output, in a session of its own."""
    pipes: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    pipes["env"] = os.environ | {"PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, start_new_session=True, **pipes, **options)


async def line_of(process: asyncio.subprocess.Process) -> str:
    """Return the next line of its output."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), TIMEOUT)).decode()


async def make_clip(base_url: str) -> None:
    """Submit a prompt and wait for its clip."""
    async with aiohttp.ClientSession() as session:
        stub: Any = type("Sandbox", (), {"base_url": base_url, "api_key": "sk-any"})
        assert (await SandboxClient(stub, session).completed())["result"]


async def is_gone(base_url: str) -> bool:
    """Return whether the sandbox stops serving within the timeout."""
    until = time.monotonic() + TIMEOUT
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until:
            try:
                async with session.get(base_url):
                    await asyncio.sleep(0.02)
            except aiohttp.ClientConnectorError:
                return True
            except aiohttp.ClientError:
                continue
    return False


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the folders of other sandboxes on this machine out of sight."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def folders() -> set[Path]:
    """Return the temporary folders of sandboxes."""
    return set(Path(tempfile.gettempdir()).glob("omni-async-sandbox-*"))


@pytest.mark.slow
async def test_a_process_serves_reports_and_ends() -> None:
    """It makes a real clip, accepts scripts, returns its record, and ends with its folder removed."""
    before = folders()
    async with SandboxProcess(**QUICK, api_key="sk-mine") as sandbox:
        assert sandbox.api_key == "sk-mine"
        await sandbox.script("submit", ["http_503"])
        with pytest.raises(ValueError, match="cannot hit a request of kind"):
            await sandbox.script("check", ["http_503"])
        async with aiohttp.ClientSession() as session:
            client = SandboxClient(sandbox, session)  # type: ignore[arg-type]
            assert (await client.submit()).status == 503
            url = await client.link()
            assert url.startswith(sandbox.cdn_url)
            assert (await client.fetch(url)).body[4:8] == b"ftyp"
        record = await sandbox.record()
        assert (record["submits"], record["accepted"], record["downloads"]) == (2, 1, 1)
    assert await is_gone(sandbox.base_url)
    assert folders() == before


async def test_a_cancelled_scope_waits_for_the_process_to_end() -> None:
    """Closing is shielded from cancellation: the process exits cleanly and is waited for."""
    with anyio.CancelScope() as scope:
        async with SandboxProcess(**QUICK) as sandbox:
            scope.cancel()
            await asyncio.sleep(TIMEOUT)
    assert sandbox._process.returncode == 0


@pytest.mark.slow
async def test_a_process_ends_when_its_parent_is_killed() -> None:
    """It ends with its rendering process, and the folder is removed."""
    before = folders()
    parent = await python("-c", PARENT)
    _, base_url = (await line_of(parent)).split()
    await make_clip(base_url)
    assert folders() != before
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    assert await is_gone(base_url)
    await _until(lambda: folders() == before)
    await parent.communicate()


async def test_a_killed_process_leaves_no_folder() -> None:
    """The rendering process removes the folder."""
    before = folders()
    async with SandboxProcess(**QUICK) as sandbox:
        await make_clip(sandbox.base_url)
        assert folders() != before
        os.kill(sandbox.pid, signal.SIGKILL)
        await _until(lambda: folders() == before)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_ctrl_c_in_a_terminal_reaches_only_the_parent() -> None:
    """After SIGINT to the process group, the parent can still read the record."""
    parent = await python("-c", PARENT)
    _, base_url = (await line_of(parent)).split()
    await make_clip(base_url)
    os.killpg(parent.pid, signal.SIGINT)
    assert await line_of(parent) == "1\n"
    assert await asyncio.wait_for(parent.wait(), TIMEOUT) == 0
    await parent.communicate()
    assert await is_gone(base_url)


@pytest.mark.slow
async def test_an_error_at_the_start_is_raised_with_its_reason() -> None:
    """A process that cannot serve raises an error with its own message, without waiting for the timeout."""
    async with Sandbox() as first:
        port = int(first.base_url.rsplit(":", 1)[1])
        with pytest.raises(RuntimeError, match=r"(?si)ended before it served.*address already in use"):
            async with SandboxProcess(port=port):
                pass


@pytest.mark.slow
async def test_the_program_of_the_child_names_the_command_for_people() -> None:
    """Without its settings it says which command there is, and ends with status 2."""
    process = await python("-m", "omni_async.sandbox", "--port", "0")
    output, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert (process.returncode, output) == (2, b"")
    assert b"omni-async sandbox" in errors


async def test_serve_calls_on_ready_and_closes_when_cancelled() -> None:
    """`serve` calls back when it serves, and closes the sandbox when it is cancelled."""
    up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(SandboxSettings(), on_ready=lambda sandbox: up.set_result(sandbox.base_url)))
    base_url = await asyncio.wait_for(up, TIMEOUT)
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/sandbox/record") as response:
        assert json.loads(await response.text())["submits"] == 0
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert await is_gone(base_url)


async def test_importing_the_sandbox_needs_no_extra() -> None:
    """The import works without av and pillow; opening a sandbox then says what to install."""
    program = """
import sys
sys.modules["av"] = sys.modules["PIL"] = None
import asyncio, omni_async.sandbox as runtime
async def main():
    async with runtime.Sandbox(): pass
try:
    asyncio.run(main())
except ModuleNotFoundError as error:
    print(error)
"""
    process = await python("-c", program)
    output, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert "pip install 'omni-async[media]'" in output.decode(), errors.decode()
