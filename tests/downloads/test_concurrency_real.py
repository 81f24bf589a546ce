"""How many downloads run at once over real sockets, by what it is that takes the time."""

from __future__ import annotations

import asyncio
from statistics import mean
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async import Limits
from tests.support.clip_host import client_of, hosting
from tests.support.fakes import mp4

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_CLIP = mp4("a clip", 10_000)
_PIECES = 4


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


async def concurrent_requests(
    folder: Path, clips: int, wait: Callable[[int], Awaitable[None]], limits: Limits | None = None
) -> list[int]:
    """Return how many requests for clips a host had at the same time, at each of them.

    `wait` is called for each piece of a clip, with the number of bytes of the piece, before it is sent.
    """
    active, seen = 0, []

    async def send(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal active
        active += 1
        seen.append(active)
        try:
            response = web.StreamResponse(headers={"Content-Length": str(len(_CLIP))})
            size = -(-len(_CLIP) // _PIECES)
            for start in range(0, len(_CLIP), size):
                await wait(size)
                if not start:
                    await response.prepare(request)
                await response.write(_CLIP[start : start + size])
        finally:
            active -= 1
        return response

    async with hosting(always=send) as host, client_of(host, folder, limits=limits) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(clips)))
    assert len(list(folder.glob("*.mp4"))) == clips
    return seen


def latency(seconds: float) -> Callable[[int], Awaitable[None]]:
    """Return a wait for as long as a distant host takes for one piece, whatever else is sent."""
    return lambda size: asyncio.sleep(seconds)


class Link:
    """One link of 1.5 MB/s for all."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def send(self, size: int) -> None:
        """Wait until the bytes have passed."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size / 1.5e6
        await asyncio.sleep(self._free_at - now)


@pytest.mark.slow
async def test_more_downloads_where_latency_takes_the_time(tmp_path: Path) -> None:
    """Each clip takes 0.6 s, and many wait: their number grows to a multiple of the first eight.

    Fast enough for this is a machine that has 32 clips downloaded and recorded in that time.
    """
    seen = await concurrent_requests(tmp_path, 120, latency(0.15))
    assert max(seen) >= 32


@pytest.mark.slow
async def test_few_downloads_where_the_bandwidth_does(tmp_path: Path) -> None:
    """The link is full with four: more are tried, and not kept."""
    seen = await concurrent_requests(tmp_path, 200, Link().send)
    assert mean(seen[-60:]) <= 16


@pytest.mark.slow
async def test_a_configured_ceiling_is_kept_where_more_would_be_faster(tmp_path: Path) -> None:
    """`max_downloads=12` is reached, and never exceeded."""
    seen = await concurrent_requests(tmp_path, 100, latency(0.05), Limits(max_downloads=12))
    assert max(seen) == 12
