"""One clip of 64 MB, verified and safe on the disk, beside `curl` to the same disk; in real time.

The time runs from the request for the clip until it stands under its name. `curl` neither verifies nor fsyncs; the
row below it does the fsync after it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections import defaultdict
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import requests

from benchmarks.contest import child
from benchmarks.figures import Aim, Figures, by_size, run
from omni_async import EventKind, JobEvent, JobStatus, OmniClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_OURS, _CURL, _CURL_SAFE = "omni_async (verified, fsynced)", "curl", "curl, then fsync"
_CHUNK = 1 << 20


def _make_clip(path: Path, size: int) -> None:
    """Write a whole MP4 by structure, of bytes that do not compress."""
    head = _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"moov", bytes(64))
    rest = size - len(head)
    with path.open("wb") as file:
        file.write(head + rest.to_bytes(4, "big") + b"mdat")
        file.write(os.urandom(_CHUNK) * (rest // _CHUNK + 1))
        file.truncate(size)


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Ways:
    """The ways to bring the clip from a server into a folder; each gives the seconds that it took."""

    def __init__(self, address: str, folder: Path, client: OmniClient, begun: dict[str, float]) -> None:
        self._address, self._folder, self._client, self._begun = address, folder, client, begun
        self._url = f"{address}/clip.mp4"
        self._numbers = count()

    def of_all(self) -> dict[str, Callable[[Path], Awaitable[float]]]:
        """Give them by name."""
        ways: dict[str, Callable[[Path], Awaitable[float]]] = {_OURS: self.library, "bare aiohttp": self.bare}
        ways["requests, in memory"] = self.snippet
        if shutil.which("curl"):
            ways |= {_CURL: self.curl, _CURL_SAFE: self.curl_safe}
        return ways

    async def library(self, path: Path) -> float:
        """Follow a task that is done; the clock starts when the transfer does."""
        job = self._client.attach(f"task_{next(self._numbers)}", key=path.stem)
        await job
        return time.monotonic() - self._begun[path.stem]

    async def bare(self, path: Path) -> float:
        """aiohttp, and writing in the loop."""
        start = time.monotonic()
        async with aiohttp.ClientSession() as session, session.get(self._url) as answer:
            with path.open("wb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    file.write(chunk)
        return time.monotonic() - start

    async def snippet(self, path: Path) -> float:
        """The page's snippet: the whole in memory, then to the disk."""
        start = time.monotonic()
        await asyncio.to_thread(lambda: path.write_bytes(requests.get(self._url, timeout=60).content))
        return time.monotonic() - start

    async def curl(self, path: Path) -> float:
        """A process of its own, whose start counts, for it is a millisecond or few."""
        start = time.monotonic()
        process = await asyncio.create_subprocess_exec("curl", "-s", "-o", str(path), self._url)
        assert await process.wait() == 0
        return time.monotonic() - start

    async def curl_safe(self, path: Path) -> float:
        """The same, and safe on the disk."""
        start = time.monotonic()
        await self.curl(path)
        await asyncio.to_thread(_sync, path)
        return time.monotonic() - start


async def _measure(rounds: int, size: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as name:
        folder = Path(name)
        _make_clip(folder / "source", size)
        begun: dict[str, float] = {}

        def note(event: JobEvent) -> None:
            if event.status is JobStatus.DOWNLOADING and event.kind is EventKind.STATUS:
                begun[event.key] = time.monotonic()

        async with child("benchmarks.clip_server") as server:
            address = await server.ask(str(folder / "source"))
            async with OmniClient("sk-benchmark", base_url=address, output_dir=folder, on_event=note) as client:
                ways = _Ways(address, folder, client, begun).of_all()
                for number in range(rounds + 1):
                    for way, fetch in ways.items():
                        path = folder / f"{number}-{list(ways).index(way)}.mp4"
                        seconds = await fetch(path)
                        assert path.stat().st_size == size
                        path.unlink()
                        await asyncio.to_thread(os.sync)  # what one leaves to be written is not for the next
                        if number:
                            times[way].append(seconds)
    return times


def measure(figures: Figures) -> None:
    """Bring it, all ways in turn, round after round."""
    size = by_size(figures, 1, 64, 64) << 20
    times = asyncio.run(_measure(by_size(figures, 1, 5, 11), size))
    for way, seconds in times.items():
        rates = [size / each / 1e6 for each in seconds]
        figures.rows.append({"way": way, "MB/s": median(rates), "from": min(rates), "to": max(rates)})
    for rival in (_CURL, _CURL_SAFE):
        if rival in times:
            ratios = tuple(theirs / ours for theirs, ours in zip(times[rival], times[_OURS], strict=True))
            figures.aims.append(Aim(f"throughput / {rival}", 0.9, ratios, at_least=True))
    figures.notes.append(f"One clip of {size >> 20} MiB, from a server that uses sendfile.")


if __name__ == "__main__":
    run("download", "Downloading one clip", measure)
