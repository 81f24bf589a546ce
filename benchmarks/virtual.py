"""An in-memory account behind the `Transport` port, and the real client connected to it, on virtual time.

Used by `chains`, `checks`, `hours` and `memory`. It does less than `omni_async.testing.MemoryServer`, so that most of
the CPU measured is the client's.
"""

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
class TaskTimes:
    """The times of one task: accepted, ready, and first reported to the client as done; and its checks until then."""

    accepted: float
    ready: float
    noticed: float | None = None
    checks: int = 0

    @property
    def delay(self) -> float:
        """Seconds between the end of the task and the check that found it done."""
        return 0.0 if self.noticed is None else self.noticed - self.ready


@dataclass
class Account:
    """An in-memory server. Its limits may be changed while it runs.

    `duration` returns the duration of the next task in seconds. `per_second` limits the rate of submits, without
    bursts; `capacity` limits the tasks that run concurrently; None means no limit. `retry_after` says whether a 429 has
    a Retry-After. `reports_progress` says whether the reported progress is the true share of the duration, or always
    50 %.
    """

    duration: Callable[[], float]
    per_second: float | None = None
    capacity: int | None = None
    latency: float = 0.05
    retry_after: bool = True
    reports_progress: bool = False
    tasks: list[TaskTimes] = field(default_factory=list)
    rate_limited: int = 0
    checks: int = 0
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._running: list[float] = []  # a heap of the times at which tasks end
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
        """Respond to a submit."""
        if on_sent is not None:
            on_sent()
        await asyncio.sleep(self.latency / 2)
        wait = self._seconds_until_accepted()
        if wait:
            self.rate_limited += 1
            response = self._reply_429(wait)
        else:
            response = self._accept()
        await asyncio.sleep(self.latency / 2)
        return response

    async def check(self, task_id: str) -> Response:
        """Respond to a status request."""
        self.checks += 1
        await asyncio.sleep(self.latency)
        now, task = _now(), self.tasks[int(task_id)]
        task.checks += task.noticed is None
        head = f'{{"code":200,"data":{{"id":"{task_id}","created":{int(EPOCH + task.accepted)},"status":'
        if now < task.ready:
            share = (now - task.accepted) / (task.ready - task.accepted) if self.reports_progress else 0.5
            return Response(200, {}, f'{head}"processing","progress":{int(100 * share)}}}}}'.encode())
        task.noticed = now if task.noticed is None else task.noticed
        url = f'"result":{{"videos":[{{"url":["https://clips.test/{task_id}.mp4"]}}]}}'
        times = f'"completed":{int(EPOCH + task.ready)},"actual_time":{max(1, round(task.ready - task.accepted))}'
        return Response(200, {}, f'{head}"completed","progress":100,"cost":0.5,{times},{url}}}}}'.encode())

    async def get(self, path: str) -> Response:
        """Respond to any other GET with 404."""
        return Response(404, {}, b"{}")

    async def upload(self, path: Path) -> Response:
        """Respond to an upload with 404."""
        return Response(404, {}, b"{}")

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[_Clip]:
        """Respond to a request for a clip."""
        await asyncio.sleep(self.latency)
        yield _Clip()

    async def aclose(self) -> None:
        """Record that the client closed the transport."""
        self.is_closed = True

    # Limits

    def _seconds_until_accepted(self) -> float:
        """Return the seconds until a submit would be accepted. 0 means now, and counts it as accepted."""
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

    def _reply_429(self, wait: float) -> Response:
        headers = {"retry-after": str(max(1, round(wait + 0.5)))} if self.retry_after else {}
        body = json.dumps({"error": {"code": 429, "message": "slow down", "type": "rate_limit_error"}}).encode()
        return Response(429, headers, body)

    def _accept(self) -> Response:
        now = _now()
        task = TaskTimes(now, now + self.duration())
        heapq.heappush(self._running, task.ready)
        self.tasks.append(task)
        body = f'{{"code":200,"data":[{{"status":"submitted","task_id":"{len(self.tasks) - 1}"}}]}}'
        return Response(200, {}, body.encode())


class _Clip:
    status = 200
    headers: Mapping[str, str] = {"content-length": str(len(CLIP)), "etag": '"one"'}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield CLIP


class VirtualClient(MemoryClient):
    """The real client, connected to an in-memory account. Its wall clock follows the event loop's clock."""

    def __init__(
        self, account: Account, folder: Path, *, limits: Limits | None = None, polling: Polling | None = None
    ) -> None:
        super().__init__(account, output_dir=folder, limits=limits, polling=polling)


def memory_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, in memory where the system has such a file system, so that no disk is measured."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="omni-benchmark-", dir=memory if memory.is_dir() else None)


def run_on_virtual_time(work: Callable[[Path], Coroutine[Any, Any, None]], seed: int = 7) -> None:
    """Run a coroutine on virtual time, with a temporary folder as its argument. `seed` fixes all random numbers."""
    random.seed(seed)
    with memory_folder() as folder:
        VirtualClock().run(work(Path(folder)))


# Unfinished jobs of an endless run: more than any account of these benchmarks runs concurrently (about 20 at 60 submits
# per minute), so that a submit is always waiting for the limit. Double only costs memory.
_PENDING = 500


async def run_for(client: OmniClient, seconds: float, prompt: str = "a clip") -> None:
    """Let a client process an endless list of prompts for this many seconds, then stop it."""

    async def work() -> None:
        async with client:
            async for job in client.as_completed(_endless(prompt), max_pending=_PENDING):
                del job

    with suppress(TimeoutError):
        await asyncio.wait_for(work(), seconds)


def _endless(prompt: str) -> Any:
    while True:
        yield prompt


def lognormal(median: float, sigma: float, seed: int) -> Callable[[], float]:
    """Return a function that draws durations in seconds from a lognormal distribution, with its own random numbers."""
    jitter = random.Random(seed)
    return lambda: median * pow(2.718281828459045, jitter.gauss(0, sigma))


def _now() -> float:
    return asyncio.get_running_loop().time()
