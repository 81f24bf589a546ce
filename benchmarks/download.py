"""The download of one clip of 64 MB, verified and fsynced, beside `curl` to the same disk; in real time.

The time is measured from the request for the clip until it has its final name. `curl` neither verifies nor fsyncs; the
row "curl, then fsync" adds the fsync. The library and `curl` alternate more often than the others: the median of the
ratios of these pairs counts, because other programs that use the disk or the cores disturb either.
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

from benchmarks.comparison import start_module
from benchmarks.figures import Figures, Target, by_size, run
from omni_async import EventKind, JobEvent, JobStatus, Limits, OmniClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_OURS, _CURL, _CURL_SAFE = "omni_async (verified, fsynced)", "curl", "curl, then fsync"
_CHUNK = 1 << 20  # bytes per read and write


def _make_clip(path: Path, size: int) -> None:
    """Write a file with a valid MP4 structure and media data that does not compress."""
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


class _Methods:
    """The methods of downloading the clip. Each writes it to a path and returns the duration in seconds."""

    def __init__(self, address: str, folder: Path, client: OmniClient, started: dict[str, float]) -> None:
        self._address, self._folder, self._client, self._started = address, folder, client, started
        self._url = f"{address}/clip.mp4"
        self._numbers = count()

    def all_available(self) -> dict[str, Callable[[Path], Awaitable[float]]]:
        """Return the methods that this machine has, by name."""
        methods: dict[str, Callable[[Path], Awaitable[float]]] = {_OURS: self.library, "bare aiohttp": self.bare}
        methods["requests, in memory"] = self.snippet
        if shutil.which("curl"):
            methods |= {_CURL: self.curl, _CURL_SAFE: self.curl_safe}
        return methods

    async def library(self, path: Path) -> float:
        """Attach a finished task; the time starts with the transfer."""
        job = self._client.attach(f"task_{next(self._numbers)}", key=path.stem)
        await job
        return time.monotonic() - self._started[path.stem]

    async def bare(self, path: Path) -> float:
        """Use plain aiohttp, writing in the event loop."""
        start = time.monotonic()
        async with aiohttp.ClientSession() as session, session.get(self._url) as response:
            with path.open("wb") as file:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    file.write(chunk)
        return time.monotonic() - start

    async def snippet(self, path: Path) -> float:
        """Use `requests` as the API page's snippet does: the complete clip in memory, then to the disk."""
        start = time.monotonic()
        await asyncio.to_thread(lambda: path.write_bytes(requests.get(self._url, timeout=60).content))
        return time.monotonic() - start

    async def curl(self, path: Path) -> float:
        """Run curl; the start of the process, a few milliseconds, is included."""
        start = time.monotonic()
        process = await asyncio.create_subprocess_exec("curl", "-s", "-o", str(path), self._url)
        assert await process.wait() == 0
        return time.monotonic() - start

    async def curl_safe(self, path: Path) -> float:
        """Run curl, then fsync the file."""
        start = time.monotonic()
        await self.curl(path)
        await asyncio.to_thread(_sync, path)
        return time.monotonic() - start


async def _measure(rounds: int, pairs: int, size: int) -> dict[str, list[float]]:
    """Return the durations of each method, in rounds of all of them; then pairs of the library and curl."""
    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as temporary:
        folder = Path(temporary)
        _make_clip(folder / "source", size)
        started: dict[str, float] = {}

        def note(event: JobEvent) -> None:
            if event.status is JobStatus.DOWNLOADING and event.kind is EventKind.STATUS:
                started[event.key] = time.monotonic()

        async with start_module("benchmarks.clip_server") as server:
            address = await server.request(str(folder / "source"))
            async with OmniClient("sk-benchmark", base_url=address, output_dir=folder, on_event=note) as client:
                methods = _Methods(address, folder, client, started).all_available()
                for number in range(rounds + 1):
                    for name in methods:
                        seconds = await _timed(
                            methods, name, folder / f"{number}-{list(methods).index(name)}.mp4", size
                        )
                        if number:
                            times[name].append(seconds)
                for number in range(pairs if _CURL in methods else 0):
                    for name in (_OURS, _CURL) if number % 2 else (_CURL, _OURS):
                        path = folder / f"pair-{number}-{list(methods).index(name)}.mp4"
                        times[name].append(await _timed(methods, name, path, size))
    return times


async def _timed(methods: dict[str, Callable[[Path], Awaitable[float]]], name: str, path: Path, size: int) -> float:
    """Download the clip with one method, and remove it. Return the duration."""
    seconds = await methods[name](path)
    await asyncio.to_thread(_remove, path, size)
    return seconds


def _remove(path: Path, size: int) -> None:
    assert path.stat().st_size == size
    path.unlink()
    os.sync()  # so that no method pays for data that an earlier one left to be written


async def _many(clips: int, size: int, limits: Limits) -> tuple[float, int | None]:
    """Return the clips per second of many that wait, and the number of downloads at once that was learned."""
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as temporary:
        folder = Path(temporary)
        _make_clip(folder / "source", size)
        async with start_module("benchmarks.clip_server") as server:
            address = await server.request(str(folder / "source"))
            async with OmniClient(
                "sk-benchmark", base_url=address, output_dir=folder, ledger=None, limits=limits
            ) as client:
                start = time.monotonic()
                await asyncio.gather(*(client.attach(f"task_{number}") for number in range(clips)))
                return clips / (time.monotonic() - start), client.statistics().learned_max_downloads


def _measure_many(figures: Figures) -> None:
    """Download many small clips, with the number of downloads at once as learned and with at most eight, in turn."""
    clips, rates = by_size(figures, 20, 600, 1000), defaultdict[str, list[float]](list)
    for _ in range(by_size(figures, 1, 3, 7)):
        for name, limits in (("as learned", Limits()), ("at most 8", Limits(max_downloads=8))):
            rate, learned = asyncio.run(_many(clips, 200 << 10, limits))
            rates[name].append(rate)
            figures.notes.append(f"{clips} clips of 200 KiB, {name}: {rate:.0f} clips/s, {learned} at once in the end.")
    ratios = tuple(ours / eight for ours, eight in zip(rates["as learned"], rates["at most 8"], strict=True))
    figures.targets.append(Target("clips/s, downloads at once as learned / at most 8", 0.95, ratios, at_least=True))


def _quartiles(ratios: tuple[float, ...]) -> str:
    ordered = sorted(ratios)
    return f"{ordered[len(ordered) // 4]:.2f} to {ordered[3 * len(ordered) // 4]:.2f}"


def measure(figures: Figures) -> None:
    """Download the clip with each method in turn, in several rounds."""
    size = by_size(figures, 1, 64, 64) << 20
    times = asyncio.run(_measure(by_size(figures, 1, 5, 11), by_size(figures, 1, 20, 40), size))
    for name, seconds in times.items():
        rates = [size / each / 1e6 for each in seconds]
        figures.rows.append({"method": name, "MB/s": median(rates), "from": min(rates), "to": max(rates)})
    for peer, required in ((_CURL, 1.1), (_CURL_SAFE, 0.9)):
        if peer in times:
            ratios = tuple(theirs / ours for theirs, ours in zip(times[peer], times[_OURS], strict=False))
            figures.targets.append(Target(f"throughput / {peer}", required, ratios, at_least=True))
            figures.notes.append(f"throughput / {peer}: half of the {len(ratios)} ratios from {_quartiles(ratios)}.")
    _measure_many(figures)
    figures.notes.append(f"One clip of {size >> 20} MiB, from a server that uses sendfile.")


if __name__ == "__main__":
    run("download", "Downloading one clip", measure)
