"""Crowds at every socket that listens, in processes that may open 256 files: runs are in time, quiet and no larger."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import OmniClient
from omni_async.sandbox import SandboxProcess
from tests.support.markers import long_run
from tests.support.processes import finish, start_python

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit to set"),
]

HEAD = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CROWDS = {
    "half-sent": HEAD % b"/",
    "silent": b"",
    "events": HEAD % b"/events" + b"\r\n",
    "pages": HEAD % b"/" + b"\r\n",
    "junk": bytes(range(256)),
    "half a body": b"POST /v1/videos/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n{",
}
_KINDS = ["half-sent", "events", "half a body", *map(long_run, ("silent", "pages", "junk"))]
ALLOWED_MB = 50  # of memory, above the run alone
ALLOWED_SECONDS = 10.0  # above the run alone: two processors are shared with the crowd


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


def limited(folder: Path, **options: object) -> Awaitable[asyncio.subprocess.Process]:
    """Start a program of `tests.support.crowded` that may open 256 files."""
    given = json.dumps({"folder": str(folder), "limit": 256} | options)
    return start_python(folder, "-W", "error", "-m", "tests.support.crowded", given)


async def printed(program: asyncio.subprocess.Process) -> dict[str, Any]:
    """Return the next JSON line of a program."""
    assert program.stdout is not None
    line = await program.stdout.readline()
    assert line, await program.communicate()
    result: dict[str, Any] = json.loads(line)
    return result


@asynccontextmanager
async def crowd_at(port: int, content: bytes | None) -> AsyncIterator[None]:
    """Hold 300 connections open, and open them anew, meanwhile; none without content."""
    members = [asyncio.create_task(_attend(port, content or b"")) for _ in range(0 if content is None else 300)]
    try:
        yield
    finally:
        for member in members:
            member.cancel()
        await asyncio.gather(*members, return_exceptions=True)


async def run_with(place: str, crowd: bytes | None, folder: Path) -> dict[str, float]:
    """Run forty jobs with a live page and a webhook, with a crowd at one of the two."""
    async with SandboxProcess(median=1.0, prerendered=True) as sandbox:
        program = await limited(folder, base_url=sandbox.base_url, api_key=sandbox.api_key)
        try:
            ports = await printed(program)
            async with crowd_at(ports[place], crowd):
                result = await printed(program)
        finally:
            status, _, err = await finish(program)
    assert (status, err) == (0, "")
    return result


async def run_through_crowd(place: str, crowd: bytes | None, folder: Path) -> float:
    """Run twenty jobs with a sandbox that may open 256 files, with a crowd at one of its sockets. Return seconds."""
    program = await limited(folder, sandbox=True)
    try:
        addresses = await printed(program)
        loop = asyncio.get_running_loop()
        client = OmniClient(addresses["api_key"], base_url=addresses["base_url"], output_dir=folder, ledger=None)
        async with crowd_at(int(addresses[place].rpartition(":")[2]), crowd), client:
            await asyncio.sleep(1.0)  # the crowd comes
            since = loop.time()
            await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(20)))
            seconds = loop.time() - since
    finally:
        program.terminate()
        _, _, err = await finish(program)
    assert err == ""
    return seconds


async def _attend(port: int, content: bytes) -> None:
    """Connect, send something and read whatever comes, again and again."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(content)
                while await reader.read(1 << 16):
                    pass
            finally:
                writer.close()
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the figures of a run without spectators."""
    return asyncio.run(run_with("live page", None, tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize("crowd", _KINDS)
@pytest.mark.parametrize("place", ["live page", "webhook"])
async def test_a_crowd_does_not_hold_up_the_run(
    tmp_path: Path, alone: dict[str, float], place: str, crowd: str
) -> None:
    """Every clip arrives, standard error stays empty, and memory and time are close to those of the run alone."""
    result = await run_with(place, CROWDS[crowd], tmp_path)
    assert result["completed"] == alone["completed"] == 40
    assert result["megabytes"] <= alone["megabytes"] + ALLOWED_MB
    assert result["seconds"] <= alone["seconds"] + ALLOWED_SECONDS


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return how long a run takes with a sandbox that has no other clients."""
    return asyncio.run(run_through_crowd("base_url", None, tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.parametrize("crowd", _KINDS)
@pytest.mark.parametrize("place", ["base_url", "cdn_url"])
async def test_a_crowd_does_not_keep_a_run_from_the_sandbox(
    tmp_path: Path, undisturbed: float, place: str, crowd: str
) -> None:
    """Those that send no complete request give way, so that every clip arrives; the sandbox prints nothing."""
    assert await run_through_crowd(place, CROWDS[crowd], tmp_path) <= undisturbed + 3 * ALLOWED_SECONDS
