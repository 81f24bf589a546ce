"""A server in memory, for tests on virtual time: the real client in front of it, no socket, no disk for the record.

It speaks as the API does through the client's own way to the server, with latency, limits and faults; its clips are
MP4s by structure, with nothing to see in them. For real bytes, real sockets and real clips take a sandbox.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import anyio

from .assertions import PaidTask, PaymentAssertions
from .fake_clips import MemoryStreamingResponse, mp4
from .faults import MEMORY_FAULTS, MemoryFault, refusal, response
from .memory_client import EPOCH, MemoryClient
from .records import MemoryTask, ReceivedSubmit

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from ..api.parsing import Response


# A fault: its name, or the reply or the exception itself.
Fault: TypeAlias = "Response | Exception | str | None"


@dataclass
class MemoryServer(PaymentAssertions):
    """An account and its tasks: ``async with MemoryServer(duration=40.0, capacity=5).client(folder) as client``.

    Every number may be changed while it runs. Times are seconds of the event loop's clock. `duration` is how long a
    task takes, or draws it; `per_second` a bucket of one, `window` so many submits in so many seconds, `capacity` tasks
    at once. It keeps `posts`, `checks` and `fetches` with their times. What is called `on_...` hears of a request
    before it is dealt with, and may give a fault: its name, or the very reply or error; `delay_...` gives its latency.
    """

    memory_faults: ClassVar[Mapping[str, MemoryFault]] = MEMORY_FAULTS

    latency: float = 0.05
    duration: float | Callable[[], float] = 20.0
    per_second: float | None = None
    window: tuple[int, float] | None = None
    capacity: int | None = None
    retry_after: str | None = "seconds"
    cost: float = 0.5
    idempotency: bool = True
    posts: list[ReceivedSubmit] = field(default_factory=list)
    checks: list[tuple[float, str]] = field(default_factory=list)
    fetches: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    tasks: dict[str, MemoryTask] = field(default_factory=dict)
    most_in_flight: int = 0
    twice_at_once: list[str] = field(default_factory=list)  # keys with two POSTs on the wire at the same time
    # Called with a request before it is dealt with; what it gives is the fault. Scripts go first.
    on_submit: Callable[[ReceivedSubmit], Fault] | None = None
    on_check: Callable[[str], Fault] | None = None
    on_fetch: Callable[[str], Fault] | None = None
    delay_submit: Callable[[ReceivedSubmit], float] | None = None
    delay_check: Callable[[str], float] | None = None
    submit_script: deque[Fault] = field(default_factory=deque)
    check_script: deque[Fault] = field(default_factory=deque)
    fetch_script: deque[Fault] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._unfinished: list[MemoryTask] = []
        self._asked_at = 0.0  # the last request, or question
        self._by_key: dict[str, str] = {}
        self._numbers = count(1)
        self._on_wire: Counter[str] = Counter()
        self._next_free = 0.0

    @staticmethod
    def now() -> float:
        """Give the loop's time."""
        return asyncio.get_running_loop().time()

    def client(self, output_dir: str | os.PathLike[str], **settings: Any) -> MemoryClient:
        """Give a client of this server; takes what `OmniClient` takes. Its ledger is in memory unless given."""
        return MemoryClient(self, output_dir=output_dir, **settings)

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind (submit, check, clip); None lets one pass."""
        names = [name if name is None or self.fault_named(kind, name) else None for name in names]
        {"submit": self.submit_script, "check": self.check_script, "clip": self.fetch_script}[kind].extend(names)

    def paid_tasks(self) -> list[PaidTask]:
        """Give the tasks that were bought, in this order."""
        with suppress(RuntimeError):  # asked after the run, when there is no loop, it is as late as it was at its end
            self._asked_at = self.now()
        fetched = {url.rsplit("/", 1)[-1].removesuffix(".mp4") for _, url, _ in self.fetches}
        return [
            PaidTask(
                task.task_id,
                str(task.body.get("prompt", "")),
                task.idempotency_key,
                not task.fails and task.ready_at <= self._asked_at and task.task_id not in fetched,
            )
            for task in self.tasks.values()
        ]

    @property
    def paid(self) -> float:
        """What was bought so far, in USD: what failed is given back."""
        return round(self.cost * sum(not task.fails for task in self.tasks.values()), 6)

    @property
    def in_flight(self) -> int:
        """How many tasks are unfinished."""
        now = self.now()
        self._unfinished = [task for task in self._unfinished if task.ready_at > now]
        return len(self._unfinished)

    def finish(self, *task_ids: str) -> None:
        """Let tasks be ready now; all if none is named."""
        for task_id in task_ids or tuple(self.tasks):
            self.tasks[task_id].ready_at = min(self.tasks[task_id].ready_at, self.now())

    # POST

    async def submit(self, body: bytes, key: str, *, on_sent: Callable[[], object] | None = None) -> Response:
        """Deal with a POST."""
        post = ReceivedSubmit(self.now(), len(self.posts) + 1, key, json.loads(body))
        self.posts.append(post)
        self._on_wire[key] += 1
        if self._on_wire[key] > 1:
            self.twice_at_once.append(key)
        try:
            delay = self.delay_submit(post) if self.delay_submit else self.latency
            if on_sent is not None:
                on_sent()
            await anyio.sleep(delay / 2)
            answer = await self._judge(post)
            await anyio.sleep(delay / 2)
        finally:
            self._on_wire[key] -= 1
        post.outcome = answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _judge(self, post: ReceivedSubmit) -> Response | Exception:
        fault = self._next_fault("submit", self.submit_script, self.on_submit, post)
        if fault is None:
            return self._refuse() or self._accept(post)
        if fault.is_accepted and self._refuse() is None:
            self._accept(post)
        await anyio.sleep(fault.hangs)
        assert fault.answer is not None
        return fault.answer

    def fault_named(self, kind: str, name: str) -> MemoryFault:
        """Give the fault of a name, for this kind of request."""
        fault = self.memory_faults.get(name)
        if fault is None or fault.kind != kind:
            fitting = ", ".join(each for each, known in self.memory_faults.items() if known.kind == kind)
            raise ValueError(f"{name!r} cannot befall a {kind} in memory; these can: {fitting}")
        return fault

    def _next_fault(
        self, kind: str, script: deque[Fault], hook: Callable[[Any], Fault] | None, request: object
    ) -> MemoryFault | None:
        """Give what goes wrong with a request: what was scripted first, then what the hook says."""
        fault = script.popleft() if script else None
        if fault is None and hook is not None:
            fault = hook(request)
        if isinstance(fault, str):
            return self.fault_named(kind, fault)
        return None if fault is None else MemoryFault(kind=kind, answer=fault)

    def _refuse(self) -> Response | None:
        now = self.now()
        wait: float | None = None
        if self.per_second:
            if now < self._next_free - 1e-9:
                wait = self._next_free - now
            else:
                self._next_free = now + 1 / self.per_second
        if self.window:
            most, seconds = self.window
            start = now - now % seconds
            if sum(task.accepted_at >= start for task in self.tasks.values()) >= most:
                wait = start + seconds - now
        if self.capacity is not None and self.in_flight >= self.capacity:
            wait = wait or 5.0
        return None if wait is None else self.too_many(wait)

    def too_many(self, wait: float) -> Response:
        """Give a 429 whose Retry-After is told as this server does."""
        advice: dict[str, str] = {}
        match self.retry_after:
            case "seconds":
                advice = {"retry_after": f"{wait:.3f}"}
            case "date":
                now = EPOCH + self.now()
                advice = {"retry_after": formatdate(now + wait + 1, usegmt=True), "date": formatdate(now, usegmt=True)}
            case "wrong":
                advice = {"retry_after": "soon"}
            case "huge":
                advice = {"retry_after": "1e9"}
        return refusal(429, "rate_limit_error", 429, "slow down", **advice)

    def _accept(self, post: ReceivedSubmit) -> Response:
        replayed = self._by_key.get(post.key) if self.idempotency else None
        task_id = replayed or f"task_{next(self._numbers):026d}"
        post.task_id = task_id
        if not replayed:
            now = self.now()
            duration = self.duration() if callable(self.duration) else self.duration
            self.tasks[task_id] = task = MemoryTask(task_id, post.body, now, now + duration, idempotency_key=post.key)
            self._unfinished.append(task)
            self._by_key[post.key] = task_id
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        headers = {"idempotency_replayed": "true"} if replayed else {}
        return response(200, {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}, **headers)

    # GET

    async def check(self, task_id: str) -> Response:
        """Deal with a status request."""
        self._asked_at = self.now()
        self.checks.append((self._asked_at, task_id))
        await anyio.sleep(self.delay_check(task_id) if self.delay_check else self.latency)
        fault = self._next_fault("check", self.check_script, self.on_check, task_id)
        if fault is not None:
            await anyio.sleep(fault.hangs)
            if isinstance(fault.answer, Exception):
                raise fault.answer
            if fault.answer is not None:
                return fault.answer
        if task_id not in self.tasks:
            return refusal(404, "invalid_request_error", 404, "task not found")
        return response(200, {"code": 200, "data": self.view(self.tasks[task_id])})

    def view(self, task: MemoryTask) -> dict[str, Any]:
        """Give a task as a check shows it."""
        seen: dict[str, Any] = {"id": task.task_id, "created": int(EPOCH + task.accepted_at)}
        if self.now() < task.ready_at:
            return seen | {
                "status": "processing",
                "progress": 50,
                "estimated_time": int(task.ready_at - task.accepted_at),
            }
        if task.fails:
            return seen | {"status": "failed", "cost": 0, "error": {"code": "task_failed", "message": "moderated"}}
        expires_at = int(EPOCH + self.now() + 86_400)
        videos = [{"url": [f"https://cdn.test/{task.task_id}.mp4"], "expires_at": expires_at}]
        return seen | {"status": "completed", "progress": 100, "cost": self.cost, "result": {"videos": videos}}

    # Clips

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[MemoryStreamingResponse]:
        """Deal with a download."""
        self.fetches.append((self.now(), url, dict(headers)))
        await anyio.sleep(self.latency)
        fault = self._next_fault("clip", self.fetch_script, self.on_fetch, url) or MemoryFault(kind="clip")
        if isinstance(fault.answer, Exception):
            raise fault.answer
        if fault.answer is not None:
            yield MemoryStreamingResponse(fault.answer.status, dict(fault.answer.headers), fault.answer.body)
            return
        content = mp4(url)
        head = {"content-length": str(len(content)), "etag": '"one"'}
        start = int(headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in headers else 0
        if start:
            head["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            head["content-length"] = str(len(content) - start)
        cut = len(content) // 2 if fault.cut else None
        yield MemoryStreamingResponse(206 if start else 200, head, content[start:], cut=cut, stalls=fault.stalls)

    # The rest of the port

    async def get(self, path: str) -> Response:
        """Return the balance, or 404 for any other page."""
        await anyio.sleep(self.latency)
        if "balance" in path:
            return response(200, {"success": True, "remain_balance": 12.5, "used_balance": 1})
        return refusal(404, "invalid_request_error", 404, "no such page")

    async def upload(self, path: Path) -> Response:
        """Deal with a picture."""
        await anyio.sleep(self.latency)
        return response(200, {"url": f"https://upload.test/{path.name}"})

    async def aclose(self) -> None:
        """Nothing is open."""
