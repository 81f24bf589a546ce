"""A sandbox of its own process serves like any other, and never outlives its parent."""

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
from omni_async.sandbox import FAULTS, Sandbox, SandboxProcess, SandboxSettings, main, serve
from tests.support.talk import Talk

ROOT = Path(omni_async.sandbox.__file__).parents[2]
PATIENCE = 20.0
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
    """Start Python with a pipe for its output, in a session of its own."""
    pipes: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    pipes["env"] = os.environ | {"PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, start_new_session=True, **pipes, **options)


async def line_of(process: asyncio.subprocess.Process) -> str:
    """Its next line, soon."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()


async def film_at(base_url: str) -> None:
    """Order a clip and wait for it."""
    async with aiohttp.ClientSession() as session:
        stub: Any = type("Sandbox", (), {"base_url": base_url, "api_key": "sk-any"})
        assert (await Talk(stub, session).completed())["result"]


async def gone(base_url: str) -> bool:
    """Whether nobody answers there any more, within the test's patience."""
    until = time.monotonic() + PATIENCE
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
    """Other sandboxes on this machine must not be mistaken for ours."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def folders() -> set[Path]:
    """The temporary folders of sandboxes."""
    return set(Path(tempfile.gettempdir()).glob("omni-async-sandbox-*"))


async def test_it_serves_and_tells_and_ends() -> None:
    """It makes a real clip, plays scripts, tells its record, and is gone afterwards with its folder."""
    before = folders()
    async with SandboxProcess(**QUICK, api_key="sk-mine") as sandbox:
        assert sandbox.api_key == "sk-mine"
        await sandbox.script("submit", ["http_503"])
        with pytest.raises(ValueError, match="cannot befall"):
            await sandbox.script("check", ["http_503"])
        async with aiohttp.ClientSession() as session:
            talk = Talk(sandbox, session)  # type: ignore[arg-type]
            assert (await talk.submit()).status == 503
            url = await talk.link()
            assert url.startswith(sandbox.cdn_url)
            assert (await talk.fetch(url)).body[4:8] == b"ftyp"
        record = await sandbox.record()
        assert (record["submits"], record["accepted"], record["downloads"]) == (2, 1, 1)
    assert await gone(sandbox.base_url)
    assert folders() == before


async def test_a_cancelled_scope_sees_it_end() -> None:
    """A scope that stays cancelled does not leave the closing half done: the process ends by itself, and is seen to."""
    with anyio.CancelScope() as scope:
        async with SandboxProcess(**QUICK) as sandbox:
            scope.cancel()
            await asyncio.sleep(PATIENCE)
    assert sandbox._process.returncode == 0


async def test_it_dies_with_a_killed_parent() -> None:
    """When its parent is killed outright, it ends, and so does its renderer with its folder."""
    before = folders()
    parent = await python("-c", PARENT)
    _, base_url = (await line_of(parent)).split()
    await film_at(base_url)
    assert folders() != before
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    assert await gone(base_url)
    await _until(lambda: folders() == before)
    await parent.communicate()


async def test_a_killed_sandbox_leaves_no_folder() -> None:
    """Even killed outright it leaves nothing: its renderer clears up."""
    before = folders()
    async with SandboxProcess(**QUICK) as sandbox:
        await film_at(sandbox.base_url)
        assert folders() != before
        os.kill(sandbox.pid, signal.SIGKILL)
        await _until(lambda: folders() == before)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.02)


async def test_the_ctrl_c_of_the_terminal_is_for_its_parent() -> None:
    """SIGINT to the whole process group reaches the parent only; the sandbox can still be asked."""
    parent = await python("-c", PARENT)
    _, base_url = (await line_of(parent)).split()
    await film_at(base_url)
    os.killpg(parent.pid, signal.SIGINT)
    assert await line_of(parent) == "1\n"
    assert await asyncio.wait_for(parent.wait(), PATIENCE) == 0
    await parent.communicate()
    assert await gone(base_url)


async def test_why_it_could_not_start_is_told() -> None:
    """A sandbox that cannot serve raises its own words, and is not waited for."""
    async with Sandbox() as first:
        port = int(first.base_url.rsplit(":", 1)[1])
        with pytest.raises(RuntimeError, match=r"(?s)ended before it served.*address already in use"):
            async with SandboxProcess(port=port):
                pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_until_told_to_stop(number: signal.Signals) -> None:
    """It prints addresses and a key, also as two lines for a shell, and ends cleanly on either signal."""
    process = await python("-m", "omni_async.sandbox", "--median", "0", "--prerendered", "--fault", "http_503=0")
    said = await line_of(process)
    base_url = next(word for word in said.split() if word.startswith("http"))
    assert "sk-sandbox" in said
    exports = [(await line_of(process)).strip() for _ in range(2)]
    assert exports == [f"export APIMART_BASE_URL={base_url}", "export APIMART_API_KEY=sk-sandbox"]
    await film_at(base_url)
    process.send_signal(number)
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, output, errors) == (0, b"", b"")


def test_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--fault list` names every fault and what it does."""
    assert main(["--fault", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)


def test_every_knob_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every field of the settings."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    for name in SandboxSettings.__dataclass_fields__:
        assert "--" + name.replace("_", "-").replace("faults", "fault") in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "earthquake=1"], "'earthquake' is no fault"),
        (["--fault", "http_500=often"], "must be NAME=P"),
        (["--per-minute", "0"], "per_minute=0.0: must be"),
        (["--window", "many"], "--window"),
    ],
)
def test_bad_options_are_explained(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option ends with status 2 and says what is wrong."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


async def test_options_reach_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed is what the sandbox gets."""
    got: list[SandboxSettings] = []

    async def note(settings: SandboxSettings, **_: Any) -> None:
        got.append(settings)

    monkeypatch.setattr("omni_async.sandbox.command.serve", note)
    line = (
        "--per-minute 30 --burst 2 --window 5/1.5 --no-idempotency --fault http_500=.5 --fault drop_after --credits 9"
    )
    assert await asyncio.to_thread(main, line.split()) == 0
    chances = {"http_500": 0.5, "drop_after": 1.0}
    knobs: dict[str, Any] = {"per_minute": 30, "burst": 2, "window": (5, 1.5), "idempotency": False, "credits": 9}
    assert got == [SandboxSettings(**knobs, faults=chances)]


async def test_serve_can_be_called() -> None:
    """`serve` tells who asks when it is up, and closes when it is cancelled."""
    up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(SandboxSettings(), on_ready=lambda sandbox: up.set_result(sandbox.base_url)))
    base_url = await asyncio.wait_for(up, PATIENCE)
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/sandbox/record") as response:
        assert json.loads(await response.text())["submits"] == 0
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert await gone(base_url)


async def test_importing_it_needs_no_extra() -> None:
    """`import omni_async.sandbox` works where av and pillow are missing; starting one then names the remedy."""
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
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert "pip install 'omni-async[media]'" in output.decode(), errors.decode()
