"""Crowds at the live page of a process that may open 256 files: the run is in time, quiet, and no larger than alone."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.processes import finish, start_python

if TYPE_CHECKING:
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
}
ALLOWED_MB = 50  # of memory, above the run alone
ALLOWED_SECONDS = 10.0  # above the run alone: two processors are shared with the crowd


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def run_with(crowd: bytes | None, folder: Path) -> dict[str, float]:
    """Run forty jobs with a live page; 300 connections are held open, and opened anew, meanwhile."""
    async with SandboxProcess(median=1.0, prerendered=True) as sandbox:
        options = {"base_url": sandbox.base_url, "api_key": sandbox.api_key, "folder": str(folder), "limit": 256}
        program = await start_python(folder, "-W", "error", "-m", "tests.support.crowded", json.dumps(options))
        assert program.stdout is not None
        address = (await program.stdout.readline()).decode().strip()
        port = int(address.rstrip("/").rpartition(":")[2])
        size = 0 if crowd is None else 300
        members = [asyncio.create_task(_attend(port, crowd or b"")) for _ in range(size)]
        try:
            status, out, err = await finish(program)
        finally:
            for member in members:
                member.cancel()
            await asyncio.gather(*members, return_exceptions=True)
    assert (status, err) == (0, "")
    result: dict[str, float] = json.loads(out)
    return result


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
    """Return the figures of a run that nobody watches."""
    return asyncio.run(run_with(None, tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize("crowd", CROWDS)
async def test_a_crowd_at_the_live_page_does_not_hold_up_the_run(
    tmp_path: Path, alone: dict[str, float], crowd: str
) -> None:
    """Every clip arrives, standard error stays empty, and memory and time are close to those of the run alone."""
    result = await run_with(CROWDS[crowd], tmp_path)
    assert result["completed"] == alone["completed"] == 40
    assert result["megabytes"] <= alone["megabytes"] + ALLOWED_MB
    assert result["seconds"] <= alone["seconds"] + ALLOWED_SECONDS
