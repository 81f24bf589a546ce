"""An in-memory account behind the `Transport` port, and the real client connected to it, on virtual time.

Used by `chains`, `checks`, `hours` and `memory`. It does less than `omni_async.testing.MemoryServer`, so that most of
the CPU measured is the client's.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
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

    from omni_async import OmniClient


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


CLIP = _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"moov", b"x") + _box(b"mdat", b"x" * 64)


# The Retry-After in seconds of a 429 for the capacity.
_CAPACITY_RETRY_AFTER = 5.0


@dataclass(slots=True)
class TaskTimes:
    """The times of one task: accepted, ready, and first reported to the client as done; and its checks until then."""

    accepted: float
    ready: float
    started: float = 0.0
    noticed: float | None = None
    checks: int = 0

    @property
    def delay(self) -> float:
        """Seconds between the end of the task and the check that found it done."""
        return 0.0 if self.noticed is None else self.noticed - self.ready


@dataclass
class Account:
    """An in-memory server. Its limits may be changed while it runs.

    `duration` returns the duration of the next task in seconds. `per_second` limits the rate of submits, of which
    `burst` may be saved up; `window` is a number of submits and the seconds of the fixed windows in which so many are
    accepted; `capacity` limits the tasks that run concurrently; None means no limit. `retry_after` says whether a 429
    has a Retry-After, which is 5 s for the capacity: a real server does not know either when a task will end.
    `progress` returns the percentage that a task reports, from the share of its time that has passed and its age in
    seconds; None to report none. `workers` is how many tasks are worked on concurrently, the others wait; None for all.
    `tells_end` says whether a finished task shows when it ended. Each clip takes `clip_seconds` to download.
    """

    duration: Callable[[], float]
    per_second: float | None = None
    burst: int = 1
    window: tuple[int, float] | None = None
    capacity: int | None = None
    latency: float = 0.05
    submit_latency: float | None = None
    retry_after: bool = True
    reports_progress: bool = False
    progress: Callable[[float, float], int | None] | None = None
    workers: int | None = None
    tells_end: bool = True
    clip_seconds: float = 0.0
    tasks: list[TaskTimes] = field(default_factory=list)
    rate_limited: int = 0
    checks: int = 0
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._running: list[float] = []  # a heap of the times at which tasks end
        self._tokens, self._filled_at = float(self.burst), 0.0
        self._workers: list[float] = []  # a heap of the times at which the workers become free
        self._first_at: float | None = None
        self._in_window: tuple[int, int] = (0, 0)  # the number of the window, and of the tasks accepted in it
        if self.progress is None:
            self.progress = true_progress if self.reports_progress else lambda share, age: 50

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
        latency = self.latency if self.submit_latency is None else self.submit_latency
        await asyncio.sleep(latency / 2)
        wait = self._seconds_until_accepted()
        if wait:
            self.rate_limited += 1
            response = self._reply_429(wait)
        else:
            response = self._accept()
        await asyncio.sleep(latency / 2)
        return response

    async def check(self, task_id: str) -> Response:
        """Respond to a status request."""
        self.checks += 1
        await asyncio.sleep(self.latency)
        now, task = _now(), self.tasks[int(task_id)]
        task.checks += task.noticed is None
        head = f'{{"code":200,"data":{{"id":"{task_id}","created":{int(EPOCH + task.accepted)},"status":'
        if now < task.ready:
            assert self.progress is not None
            share = max(0.0, (now - task.started) / (task.ready - task.started))
            percent = self.progress(share, now - task.accepted)
            progress = "" if percent is None else f',"progress":{percent}'
            return Response(200, {}, f'{head}"processing"{progress}}}}}'.encode())
        task.noticed = now if task.noticed is None else task.noticed
        url = f'"result":{{"videos":[{{"url":["https://clips.test/{task_id}.mp4"]}}]}}'
        times = f'"completed":{int(EPOCH + task.ready)},"actual_time":{max(1, round(task.ready - task.accepted))}'
        told = f"{times}," if self.tells_end else ""
        return Response(200, {}, f'{head}"completed","progress":100,"cost":0.5,{told}{url}}}}}'.encode())

    async def get(self, path: str) -> Response:
        """Respond to any other GET with 404."""
        return Response(404, {}, b"{}")

    async def upload(self, path: Path) -> Response:
        """Respond to an upload with 404."""
        return Response(404, {}, b"{}")

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[_Clip]:
        """Respond to a request for a clip."""
        await asyncio.sleep(self.latency + self.clip_seconds)
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
            return _CAPACITY_RETRY_AFTER
        if self.per_second is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.per_second)
            self._filled_at = now
            if self._tokens < 1 - 1e-9:
                return (1 - self._tokens) / self.per_second
            self._tokens -= 1
        if self.window is not None:
            most, seconds = self.window
            self._first_at = now if self._first_at is None else self._first_at
            number = int((now - self._first_at) / seconds + 1e-9)
            used = self._in_window[1] if self._in_window[0] == number else 0
            if used >= most:
                return self._first_at + (number + 1) * seconds - now
            self._in_window = (number, used + 1)
        return 0.0

    def _reply_429(self, wait: float) -> Response:
        headers = {"retry-after": str(max(1, round(wait + 0.5)))} if self.retry_after else {}
        body = json.dumps({"error": {"code": 429, "message": "slow down", "type": "rate_limit_error"}}).encode()
        return Response(429, headers, body)

    def _accept(self) -> Response:
        now = _now()
        started = heapq.heappop(self._workers) if len(self._workers) >= (self.workers or math.inf) else now
        started = max(now, started)
        task = TaskTimes(now, started + self.duration(), started)
        if self.workers is not None:
            heapq.heappush(self._workers, task.ready)
        heapq.heappush(self._running, task.ready)
        self.tasks.append(task)
        body = f'{{"code":200,"data":[{{"status":"submitted","task_id":"{len(self.tasks) - 1}"}}]}}'
        return Response(200, {}, body.encode())


def true_progress(share: float, age: float) -> int:
    """Return the percentage of a server that knows how far each task is."""
    return int(100 * share)


class _Clip:
    status = 200
    headers: Mapping[str, str] = {"content-length": str(len(CLIP)), "etag": '"one"'}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield CLIP


class VirtualClient(MemoryClient):
    """The real client, connected to an in-memory account. Its wall clock follows the event loop's clock."""

    def __init__(self, account: Account, folder: Path, **settings: Any) -> None:
        super().__init__(account, output_dir=folder, **settings)


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
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), client:
            async for job in client.as_completed(_endless(prompt), max_pending=_PENDING):
                del job


def _endless(prompt: str) -> Any:
    while True:
        yield prompt


def lognormal(median: float, sigma: float, seed: int) -> Callable[[], float]:
    """Return a function that draws durations in seconds from a lognormal distribution, with its own random numbers."""
    jitter = random.Random(seed)
    return lambda: median * pow(2.718281828459045, jitter.gauss(0, sigma))


def _now() -> float:
    return asyncio.get_running_loop().time()
