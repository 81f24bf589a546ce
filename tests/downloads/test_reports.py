"""The user is told, once for each host and cause, that downloads wait, and when they go on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from omni_async import DownloadError, Limits, Retry, TransportError, TransportTimeout
from omni_async.api.parsing import Response
from tests.support.fakes import FakeClient, Server, not_sent, response

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.testing.memory_server import Fault


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about downloads."""
    named = [each for each in caplog.records if each.name == "omni_async.downloads.reports"]
    assert all(each.levelno == logging.WARNING for each in named)
    return [each.getMessage() for each in named]


async def run(server: Server, folder: Path, jobs: int, retry: Retry | None = None) -> None:
    """Run some jobs whose clips are downloaded in parallel."""
    limits = Limits(max_downloads=8)
    async with FakeClient(server, folder, limits=limits, retry=retry or Retry(timeout=300)) as client:
        await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(jobs)))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (not_sent(), "no connection"),
        (TransportTimeout("no byte within 30 s"), "no byte within 30 s"),
        (TransportError("connection reset"), "connection reset"),
        (response(502), "HTTP 502"),
        (response(429), "HTTP 429"),
        (response(404), "HTTP 404"),
        ("stall", "stall"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_parallel_downloads_that_wait_for_one_host_give_one_line_and_one_when_it_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault, says: str
) -> None:
    """Eight downloads: one line with host, reason and time, one when they go on. None is repeated."""
    server = Server(duration=0)
    failing = True
    server.on_download = lambda _: fault if failing else None

    async def recover() -> None:
        nonlocal failing
        await asyncio.sleep(100)
        failing = False

    recovery = asyncio.create_task(recover())
    await run(server, tmp_path, jobs=8)
    await recovery
    told = warnings_of(caplog)
    if fault == "stall":  # each attempt brings a few bytes at first
        told = [text for text in told if "wait" in text][:1] + told[-1:]
    assert len(told) == 2
    assert "downloads wait for cdn.test: " in told[0]
    assert says in told[0] or fault == "stall"
    assert "300 s" in told[0]
    assert "cdn.test works again after" in told[1]
    assert "8 had waited" in told[1] or fault == "stall"


async def test_a_single_failure_is_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One broken transfer each is common, and over before anyone has read of it."""
    server = Server(duration=0)
    seen = set[str]()

    def cut_once(url: str) -> str | None:
        is_first = url not in seen
        seen.add(url)
        return "cut" if is_first else None

    server.on_download = cut_once
    await run(server, tmp_path, jobs=8)
    assert warnings_of(caplog) == []


async def test_a_wait_for_the_api_is_told_as_such(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An expired URL needs a check: if the API is down, that is what the downloads wait for."""
    server = Server(duration=0)
    downloads = 0

    def expired(_: str) -> Response | None:
        nonlocal downloads
        downloads += 1
        return response(403) if downloads == 1 else None

    server.on_download = expired
    ends_at = server.now() + 60
    server.on_check = lambda _: response(502) if downloads == 1 and server.now() < ends_at else None
    await run(server, tmp_path, jobs=1)
    told = warnings_of(caplog)
    assert len(told) == 2
    assert "downloads wait for the API: " in told[0]
    assert "the API works again" in told[1]


async def test_a_host_that_never_recovers_is_not_said_to_work_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The errors of the jobs say how it ended."""
    server = Server(duration=0)
    server.on_download = lambda _: response(503)
    with pytest.raises(DownloadError, match="HTTP 503"):
        await run(server, tmp_path, jobs=1, retry=Retry(timeout=60))
    assert len(warnings_of(caplog)) == 1
