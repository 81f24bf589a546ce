"""An in-memory server for tests on virtual time. Used through the real client, without sockets.

It implements the client's transport port, so that its responses take the same path as those of the API. It has
latency, limits and faults. Its clips have a valid MP4 structure and no playable content. Use a sandbox for real bytes,
real sockets and real clips.
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
from urllib.parse import parse_qs, urlsplit

import anyio

from omni_async import SubmitWithheld

from ..sandbox.schemas import model_schema
from .assertions import PaymentAssertions
from .fake_clips import MemoryStreamingResponse, mp4
from .faults import MEMORY_FAULTS, MemoryFault, refusal, response
from .memory_client import EPOCH, MemoryClient
from .records import PaidTask, ReceivedSubmit

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from ..api.parsing import Response


# The Retry-After in seconds of a 429 for the concurrency limit: a real server does not know either when a task will
# end. With a smaller value a client that obeys it probes more often. With a larger one it waits longer than the slot
# needs to become free, unless it notices the finished task. Chosen, not measured.
_CAPACITY_RETRY_AFTER = 5.0

# A client that waits exactly one interval of `per_second` may arrive early by the rounding error of its timer.
_ROUNDING = 1e-9

# What goes wrong with a request: the name of a fault, the response to send, the exception to raise, or None.
Fault: TypeAlias = "Response | Exception | str | None"


@dataclass
class MemoryServer(PaymentAssertions):
    """An account and its tasks: ``async with MemoryServer(duration=40.0, capacity=5).client(folder) as client``.

    Times are seconds of the event loop's clock. Every setting may be changed while a client is running.

    Settings:
        latency: of each request, in seconds.
        duration: of each task, in seconds; or a function that returns it for the next task.
        per_second: submits accepted per second, without bursts (a token bucket of one); None for no limit.
        window: (count, seconds): submits accepted in each fixed window; None for no limit.
        capacity: tasks that may run concurrently; None for no limit.
        retry_after: the Retry-After of a 429: "seconds", "date", "wrong" (unreadable), "huge", or None to omit it.
        cost: of each task, in USD.
        idempotency: whether a repeated Idempotency-Key returns the first task instead of creating another.
        declare_idempotency: whether the schema of a model declares that; None to declare it if it is so.

    Hooks, called with each request before it is processed; scripted faults come first:
        on_submit, on_check, on_download: return what goes wrong, see `Fault`. Checks are given by task id, downloads
            by URL.
        delay_submit, delay_check: return the latency of this request, in seconds.

    Records:
        posts, checks, downloads: the requests received, the last two as tuples that start with the time.
        tasks: the accepted tasks, by id.
        most_in_flight: the highest number of unfinished tasks so far.
        concurrent_submits: Idempotency-Keys that had two POSTs in progress concurrently.
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
    declare_idempotency: bool | None = None
    posts: list[ReceivedSubmit] = field(default_factory=list)
    checks: list[tuple[float, str]] = field(default_factory=list)
    downloads: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    tasks: dict[str, PaidTask] = field(default_factory=dict)
    most_in_flight: int = 0
    concurrent_submits: list[str] = field(default_factory=list)
    on_submit: Callable[[ReceivedSubmit], Fault] | None = None
    on_check: Callable[[str], Fault] | None = None
    on_download: Callable[[str], Fault] | None = None
    delay_submit: Callable[[ReceivedSubmit], float] | None = None
    delay_check: Callable[[str], float] | None = None
    submit_script: deque[Fault] = field(default_factory=deque)
    check_script: deque[Fault] = field(default_factory=deque)
    download_script: deque[Fault] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._unfinished: list[PaidTask] = []
        # The time of the last request or assertion: an assertion after the run, when there is no event loop, applies
        # to this time.
        self._last_request_at = 0.0
        self._task_id_by_key: dict[str, str] = {}
        self._numbers = count(1)
        self._active_submits: Counter[str] = Counter()
        self._next_free = 0.0

    @staticmethod
    def now() -> float:
        """Return the event loop's time in seconds."""
        return asyncio.get_running_loop().time()

    def client(self, output_dir: str | os.PathLike[str], **settings: Any) -> MemoryClient:
        """Return a client of this server. Takes the arguments of `OmniClient`; its ledger is in memory by default."""
        return MemoryClient(self, output_dir=output_dir, **settings)

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind (submit, check, clip), one each; None for a normal response.

        Raises `ValueError` for a name that is not a fault of this kind.
        """
        names = [name if name is None or self.fault_named(kind, name) else None for name in names]
        {"submit": self.submit_script, "check": self.check_script, "clip": self.download_script}[kind].extend(names)

    def paid_tasks(self) -> list[PaidTask]:
        """Return the accepted tasks, in order of acceptance."""
        return list(self.tasks.values())

    def tasks_awaiting_download(self) -> list[PaidTask]:
        """Return the tasks that have a finished clip that no client has requested."""
        with suppress(RuntimeError):  # no event loop: the run is over
            self._last_request_at = self.now()
        return [task for task in self.tasks.values() if task.awaits_download(self._last_request_at)]

    @property
    def paid(self) -> float:
        """The cost of all tasks in USD, without those that fail: their price is refunded."""
        return round(self.cost * sum(not task.fails for task in self.tasks.values()), 6)

    @property
    def in_flight(self) -> int:
        """The number of unfinished tasks."""
        now = self.now()
        self._unfinished = [task for task in self._unfinished if task.ready_at > now]
        return len(self._unfinished)

    def finish(self, *task_ids: str) -> None:
        """Finish these tasks now, or all of them if no id is given."""
        for task_id in task_ids or tuple(self.tasks):
            self.tasks[task_id].ready_at = min(self.tasks[task_id].ready_at, self.now())

    # POST

    async def submit(
        self,
        body: bytes,
        key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """Respond to a POST."""
        if may_send is not None and not may_send():
            raise SubmitWithheld("submit: withheld")
        post = ReceivedSubmit(self.now(), len(self.posts) + 1, key, json.loads(body))
        self.posts.append(post)
        self._active_submits[key] += 1
        if self._active_submits[key] > 1:
            self.concurrent_submits.append(key)
        try:
            delay = self.delay_submit(post) if self.delay_submit else self.latency
            if on_sent is not None:
                on_sent()
            await anyio.sleep(delay / 2)
            reply = await self._reply_to(post)
            await anyio.sleep(delay / 2)
        finally:
            self._active_submits[key] -= 1
        post.outcome = reply
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _reply_to(self, post: ReceivedSubmit) -> Response | Exception:
        fault = self._next_fault("submit", self.submit_script, self.on_submit, post)
        if fault is None:
            return self._refusal() or self._accept(post)
        if fault.is_accepted and self._refusal() is None:
            self._accept(post)
        await anyio.sleep(fault.delay)
        assert fault.reply is not None
        return fault.reply

    def fault_named(self, kind: str, name: str) -> MemoryFault:
        """Return the fault with this name. Raises `ValueError` if it does not exist or applies to another kind."""
        fault = self.memory_faults.get(name)
        if fault is None or fault.kind != kind:
            names = ", ".join(each for each, known in self.memory_faults.items() if known.kind == kind)
            raise ValueError(f"{name!r} is not a {kind} fault of a MemoryServer; these are: {names}")
        return fault

    def _next_fault(
        self, kind: str, script: deque[Fault], hook: Callable[[Any], Fault] | None, request: object
    ) -> MemoryFault | None:
        """Return what goes wrong with a request: the next scripted fault, else what the hook returns."""
        fault = script.popleft() if script else None
        if fault is None and hook is not None:
            fault = hook(request)
        if isinstance(fault, str):
            return self.fault_named(kind, fault)
        return None if fault is None else MemoryFault(kind=kind, reply=fault)

    def _refusal(self) -> Response | None:
        now = self.now()
        wait: float | None = None
        if self.per_second:
            if now < self._next_free - _ROUNDING:
                wait = self._next_free - now
            else:
                self._next_free = now + 1 / self.per_second
        if self.window:
            count_limit, seconds = self.window
            start = now - now % seconds
            if sum(task.accepted_at >= start for task in self.tasks.values()) >= count_limit:
                wait = start + seconds - now
        if self.capacity is not None and self.in_flight >= self.capacity:
            wait = wait or _CAPACITY_RETRY_AFTER
        return None if wait is None else self.rate_limited(wait)

    def rate_limited(self, wait: float) -> Response:
        """Return a 429 response to retry after `wait` seconds, stated as `retry_after` says."""
        headers: dict[str, str] = {}
        match self.retry_after:
            case "seconds":
                headers = {"retry_after": f"{wait:.3f}"}
            case "date":
                now = EPOCH + self.now()
                # An HTTP date drops the fraction of a second: without the 1 s it could name a time that is too early.
                headers = {"retry_after": formatdate(now + wait + 1, usegmt=True), "date": formatdate(now, usegmt=True)}
            case "wrong":
                headers = {"retry_after": "soon"}
            case "huge":
                headers = {"retry_after": "1e9"}
        return refusal(429, "rate_limit_error", 429, "slow down", **headers)

    def _accept(self, post: ReceivedSubmit) -> Response:
        replayed = self._task_id_by_key.get(post.key) if self.idempotency else None
        task_id = replayed or f"task_{next(self._numbers):026d}"
        post.task_id = task_id
        if not replayed:
            now = self.now()
            duration = self.duration() if callable(self.duration) else self.duration
            self.tasks[task_id] = task = PaidTask(task_id, post.body, now, now + duration, idempotency_key=post.key)
            self._unfinished.append(task)
            self._task_id_by_key[post.key] = task_id
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        headers = {"idempotency_replayed": "true"} if replayed else {}
        return response(200, {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}, **headers)

    # GET

    async def check(self, task_id: str) -> Response:
        """Respond to a status request."""
        self._last_request_at = self.now()
        self.checks.append((self._last_request_at, task_id))
        await anyio.sleep(self.delay_check(task_id) if self.delay_check else self.latency)
        fault = self._next_fault("check", self.check_script, self.on_check, task_id)
        if fault is not None:
            await anyio.sleep(fault.delay)
            if isinstance(fault.reply, Exception):
                raise fault.reply
            if fault.reply is not None:
                return fault.reply
        if task_id not in self.tasks:
            return refusal(404, "invalid_request_error", 404, "task not found")
        return response(200, {"code": 200, "data": self.view(self.tasks[task_id])})

    def view(self, task: PaidTask) -> dict[str, Any]:
        """Return a task as the API shows it."""
        common: dict[str, Any] = {"id": task.task_id, "created": int(EPOCH + task.accepted_at)}
        if self.now() < task.ready_at:
            return common | {
                "status": "processing",
                "progress": 50,
                "estimated_time": int(task.ready_at - task.accepted_at),
            }
        if task.fails:
            return common | {"status": "failed", "cost": 0, "error": {"code": "task_failed", "message": "moderated"}}
        expires_at = int(EPOCH + self.now() + 86_400)
        videos = [{"url": [f"https://cdn.test/{task.task_id}.mp4"], "expires_at": expires_at}]
        return common | {"status": "completed", "progress": 100, "cost": self.cost, "result": {"videos": videos}}

    # Clips

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[MemoryStreamingResponse]:
        """Respond to a request for a clip."""
        self.downloads.append((self.now(), url, dict(headers)))
        if task := self.tasks.get(url.rsplit("/", 1)[-1].removesuffix(".mp4")):
            task.is_downloaded = True
        await anyio.sleep(self.latency)
        fault = self._next_fault("clip", self.download_script, self.on_download, url) or MemoryFault(kind="clip")
        if isinstance(fault.reply, Exception):
            raise fault.reply
        if fault.reply is not None:
            yield MemoryStreamingResponse(fault.reply.status, dict(fault.reply.headers), fault.reply.body)
            return
        content = mp4(url)
        response_headers = {"content-length": str(len(content)), "etag": '"one"'}
        start = int(headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in headers else 0
        if start:
            response_headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            response_headers["content-length"] = str(len(content) - start)
        cut = len(content) // 2 if fault.is_cut else None
        yield MemoryStreamingResponse(
            206 if start else 200, response_headers, content[start:], cut=cut, is_stalled=fault.is_stalled
        )

    # The rest of the port

    async def get(self, path: str) -> Response:
        """Respond to any other GET. Only the balance and the schemas of models exist; every model has one."""
        await anyio.sleep(self.latency)
        parts = urlsplit(path)
        if "balance" in parts.path:
            return response(200, {"success": True, "remain_balance": 12.5, "used_balance": 1})
        if parts.path == "/v1/model-schema":
            declares = self.idempotency if self.declare_idempotency is None else self.declare_idempotency
            model = parse_qs(parts.query).get("model", [""])[0]
            return response(200, model_schema(model, {}, declares_idempotency=declares))
        return refusal(404, "invalid_request_error", 404, "page not found")

    async def upload(self, path: Path) -> Response:
        """Respond to an image upload."""
        await anyio.sleep(self.latency)
        return response(200, {"url": f"https://upload.test/{path.name}"})

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""
