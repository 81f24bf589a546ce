"""An account in memory that speaks through the `Transport` port, and the real client on virtual time in front of it."""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_async.api.parsing import Response
from omni_async.testing import MemoryClient, VirtualClock
from omni_async.testing.memory_client import EPOCH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping

    from omni_async import Limits, OmniClient, Polling


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


CLIP = _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"moov", b"x") + _box(b"mdat", b"x" * 64)


@dataclass(slots=True)
class Life:
    """One task: when it was accepted, done, and first seen to be done; how often it was asked about by then."""

    accepted: float
    ready: float
    noticed: float | None = None
    checks: int = 0

    @property
    def late(self) -> float:
        """Seconds from its end until anybody knew."""
        return 0.0 if self.noticed is None else self.noticed - self.ready


@dataclass
class Account:
    """A server in memory. Its limits may be changed while it runs; `duration` draws how long the next task takes.

    `tells`: its progress is the share of a task's time that is over, and not always the same.
    """

    duration: Callable[[], float]
    per_second: float | None = None  # a bucket of one
    capacity: int | None = None
    latency: float = 0.05
    retry_after: bool = True
    tells: bool = False
    lives: list[Life] = field(default_factory=list)
    refused: int = 0
    checks: int = 0
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._running: list[float] = []  # a heap of ends
        self._next_free = 0.0

    # The port

    async def submit(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """POST."""
        if on_sent is not None:
            on_sent()
        await asyncio.sleep(self.latency / 2)
        wait = self._wait()
        if wait:
            self.refused += 1
            answer = self._too_many(wait)
        else:
            answer = self._accept()
        await asyncio.sleep(self.latency / 2)
        return answer

    async def check(self, task_id: str) -> Response:
        """GET a task."""
        self.checks += 1
        await asyncio.sleep(self.latency)
        now, life = _now(), self.lives[int(task_id)]
        life.checks += life.noticed is None
        head = f'{{"code":200,"data":{{"id":"{task_id}","created":{int(EPOCH + life.accepted)},"status":'
        if now < life.ready:
            share = (now - life.accepted) / (life.ready - life.accepted) if self.tells else 0.5
            return Response(200, {}, f'{head}"processing","progress":{int(100 * share)}}}}}'.encode())
        life.noticed = now if life.noticed is None else life.noticed
        url = f'"result":{{"videos":[{{"url":["https://clips.test/{task_id}.mp4"]}}]}}'
        times = f'"completed":{int(EPOCH + life.ready)},"actual_time":{max(1, round(life.ready - life.accepted))}'
        return Response(200, {}, f'{head}"completed","progress":100,"cost":0.5,{times},{url}}}}}'.encode())

    async def get(self, path: str) -> Response:
        """GET another page."""
        return Response(404, {}, b"{}")

    async def upload(self, path: Path) -> Response:
        """POST a picture."""
        return Response(404, {}, b"{}")

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[_Clip]:
        """GET a clip."""
        await asyncio.sleep(self.latency)
        yield _Clip()

    async def aclose(self) -> None:
        """Close."""
        self.is_closed = True

    # Its limits

    def _wait(self) -> float:
        """Give the seconds until one more would be taken, 0 for now, which is counted then."""
        now = _now()
        while self._running and self._running[0] <= now:
            heapq.heappop(self._running)
        if self.capacity is not None and len(self._running) >= self.capacity:
            return self._running[0] - now
        if self.per_second is not None:
            if now < self._next_free - 1e-9:
                return self._next_free - now
            self._next_free = now + 1 / self.per_second
        return 0.0

    def _too_many(self, wait: float) -> Response:
        headers = {"retry-after": str(max(1, round(wait + 0.5)))} if self.retry_after else {}
        body = json.dumps({"error": {"code": 429, "message": "slow down", "type": "rate_limit_error"}}).encode()
        return Response(429, headers, body)

    def _accept(self) -> Response:
        now = _now()
        life = Life(now, now + self.duration())
        heapq.heappush(self._running, life.ready)
        self.lives.append(life)
        body = f'{{"code":200,"data":[{{"status":"submitted","task_id":"{len(self.lives) - 1}"}}]}}'
        return Response(200, {}, body.encode())


class _Clip:
    status = 200
    headers: Mapping[str, str] = {"content-length": str(len(CLIP)), "etag": '"one"'}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield CLIP


class VirtualClient(MemoryClient):
    """The real client in front of an account in memory; its wall clock goes with the loop's."""

    def __init__(
        self, account: Account, folder: Path, *, limits: Limits | None = None, polling: Polling | None = None
    ) -> None:
        super().__init__(account, output_dir=folder, limits=limits, polling=polling)


def folder_in_memory() -> tempfile.TemporaryDirectory[str]:
    """Give a folder that costs no disk, where the system has one."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="omni-benchmark-", dir=memory if memory.is_dir() else None)


def on_virtual_time(work: Callable[[Path], Coroutine[Any, Any, None]], seed: int = 7) -> None:
    """Run a coroutine on virtual time, with a folder to put clips in; work for threads is done inline."""
    random.seed(seed)
    with folder_in_memory() as folder:
        VirtualClock().run(work(Path(folder)))


async def for_so_long(client: OmniClient, seconds: float, prompt: str = "a clip") -> None:
    """Let a client work off a list without end, and leave it when its time is over."""

    async def work() -> None:
        async with client:
            async for job in client.as_completed(_without_end(prompt), max_pending=500):
                del job

    with suppress(TimeoutError):
        await asyncio.wait_for(work(), seconds)


def _without_end(prompt: str) -> Any:
    while True:
        yield prompt


def lognormal(median: float, sigma: float, seed: int) -> Callable[[], float]:
    """Give jitter of their own for durations."""
    jitter = random.Random(seed)
    return lambda: median * pow(2.718281828459045, jitter.gauss(0, sigma))


def _now() -> float:
    return asyncio.get_running_loop().time()
