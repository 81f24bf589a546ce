"""A server in memory that speaks through the `Transport` port, with latency, limits and faults by script."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from omni_async import Limits, OmniClient, Polling, Retry, TransportError, TransportTimeout
from omni_async._core.wire import Reply
from omni_async._ledger import MemoryLedger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
    from pathlib import Path
    from typing import Self

    from omni_async._core.record import JobRecord

EPOCH = 1_800_000_000.0  # unix time when the loop's clock shows zero

# A fault: a reply, an exception to raise, or a word the fake knows.
Fault: TypeAlias = "Reply | Exception | str | None"


def box(kind: bytes, content: bytes) -> bytes:
    """Give one MP4 box."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def mp4(name: str, size: int = 2000) -> bytes:
    """Give a whole MP4 by structure, different for each name."""
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", name.encode()) + box(b"mdat", name.encode() * size)


def reply(status: int, content: Any = None, **headers: str) -> Reply:
    """Give an answer: a dict goes as JSON, bytes go as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def refusal(status: int, kind: str = "apimart_error", code: object = "", message: str = "no", **headers: str) -> Reply:
    """Give an error answer in the service's own shape."""
    return reply(status, {"error": {"code": code, "message": message, "type": kind}}, **headers)


def not_sent() -> TransportError:
    """The error of a request of which no byte left."""
    return TransportError("no way to the server", sent=False)


HTML = reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")


@dataclass
class Post:
    """One POST as the server saw it. Times are of the loop's clock."""

    at: float
    number: int  # counted from 1
    key: str
    body: dict[str, Any]
    task_id: str | None = None
    outcome: object = None


@dataclass
class FakeTask:
    """One paid task."""

    task_id: str
    body: dict[str, Any]
    accepted_at: float
    ready_at: float
    fails: bool = False


@dataclass
class Server:
    """An account and its tasks. Every number may be changed while it runs."""

    latency: float = 0.05
    duration: float = 20.0
    per_second: float | None = None  # a bucket of one
    window: tuple[int, float] | None = None
    capacity: int | None = None
    retry_after: str | None = "seconds"
    cost: float = 0.5
    posts: list[Post] = field(default_factory=list)
    checks: list[tuple[float, str]] = field(default_factory=list)
    batches: list[tuple[float, list[str]]] = field(default_factory=list)
    fetches: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    tasks: dict[str, FakeTask] = field(default_factory=dict)
    most_in_flight: int = 0
    twice_at_once: list[str] = field(default_factory=list)  # keys with two POSTs on the wire at the same time
    # Called with a request before it is dealt with; what it gives is the fault. Scripts go first.
    on_submit: Callable[[Post], Fault] | None = None
    on_check: Callable[[str], Fault] | None = None
    on_batch: Callable[[list[dict[str, Any]]], Fault] | None = None
    on_fetch: Callable[[str], Fault] | None = None
    delay_submit: Callable[[Post], float] | None = None
    delay_check: Callable[[str], float] | None = None
    submit_script: deque[Fault] = field(default_factory=deque)
    check_script: deque[Fault] = field(default_factory=deque)
    fetch_script: deque[Fault] = field(default_factory=deque)
    # Uploads: when, which file, what it held
    uploads: list[tuple[float, str, bytes]] = field(default_factory=list)
    most_uploads_at_once: int = 0
    upload_latency: float = 0.5
    upload_script: deque[Fault] = field(default_factory=deque)
    on_upload: Callable[[Path], Fault] | None = None

    def __post_init__(self) -> None:
        self._by_key: dict[str, str] = {}
        self._numbers = count(1)
        self._on_wire: Counter[str] = Counter()
        self._next_free = 0.0
        self._uploading = 0

    @staticmethod
    def now() -> float:
        """Give the loop's time."""
        return asyncio.get_running_loop().time()

    @property
    def in_flight(self) -> int:
        """How many tasks are unfinished."""
        now = self.now()
        return sum(task.ready_at > now for task in self.tasks.values())

    def finish(self, *task_ids: str) -> None:
        """Let tasks be ready now; all if none is named."""
        for task_id in task_ids or tuple(self.tasks):
            self.tasks[task_id].ready_at = min(self.tasks[task_id].ready_at, self.now())

    # POST

    async def submit(self, body: bytes, key: str) -> Reply:
        """Deal with a POST."""
        post = Post(self.now(), len(self.posts) + 1, key, json.loads(body))
        self.posts.append(post)
        self._on_wire[key] += 1
        if self._on_wire[key] > 1:
            self.twice_at_once.append(key)
        try:
            delay = self.delay_submit(post) if self.delay_submit else self.latency
            await anyio.sleep(delay / 2)
            answer = await self._judge(post)
            await anyio.sleep(delay / 2)
        finally:
            self._on_wire[key] -= 1
        post.outcome = answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _judge(self, post: Post) -> Reply | Exception:
        fault = self.submit_script.popleft() if self.submit_script else None
        if fault is None and self.on_submit:
            fault = self.on_submit(post)
        match fault:
            case None:
                return self._refuse() or self._accept(post)
            case "lost":  # taken, but the answer never arrives
                answer = self._refuse()
                if answer is None:
                    self._accept(post)
                return TransportError("Server disconnected")
            case "lost 502":
                self._accept(post)
                return HTML
            case "hang":
                await anyio.sleep(120)
                return TransportTimeout("no answer within 120 s")
            case str():
                raise AssertionError(f"no such fault: {fault}")
        return fault

    def _refuse(self) -> Reply | None:
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

    def too_many(self, wait: float) -> Reply:
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

    def _accept(self, post: Post) -> Reply:
        replayed = self._by_key.get(post.key)
        task_id = replayed or f"task_{next(self._numbers):026d}"
        post.task_id = task_id
        if not replayed:
            now = self.now()
            self.tasks[task_id] = FakeTask(task_id, post.body, now, now + self.duration)
            self._by_key[post.key] = task_id
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        headers = {"idempotency_replayed": "true"} if replayed else {}
        return reply(200, {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}, **headers)

    # GET

    async def check(self, task_id: str) -> Reply:
        """Deal with a status request."""
        self.checks.append((self.now(), task_id))
        await anyio.sleep(self.delay_check(task_id) if self.delay_check else self.latency)
        fault = self.check_script.popleft() if self.check_script else None
        if fault is None and self.on_check:
            fault = self.on_check(task_id)
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, Reply):
            return fault
        if fault == "hang":
            await anyio.sleep(20)
            raise TransportTimeout("no answer within 20 s")
        if task_id not in self.tasks:
            return refusal(404, "invalid_request_error", 404, "task not found")
        return reply(200, {"code": 200, "data": self.view(self.tasks[task_id])})

    async def check_many(self, task_ids: list[str]) -> Reply:
        """Deal with a question about many tasks: ids and status words."""
        self.batches.append((self.now(), task_ids))
        await anyio.sleep(self.latency)
        views = [self.view(self.tasks[task_id]) for task_id in task_ids if task_id in self.tasks]
        items = [{name: view[name] for name in ("id", "status")} for view in views]
        fault = self.on_batch(items) if self.on_batch else None
        if isinstance(fault, Exception):
            raise fault
        return fault if isinstance(fault, Reply) else reply(200, {"code": 200, "data": items})

    def view(self, task: FakeTask) -> dict[str, Any]:
        """Give a task as a check shows it."""
        seen: dict[str, Any] = {"id": task.task_id, "created": int(EPOCH + task.accepted_at)}
        if self.now() < task.ready_at:
            return seen | {"status": "processing", "progress": 50, "estimated_time": int(self.duration)}
        if task.fails:
            return seen | {"status": "failed", "cost": 0, "error": {"code": "task_failed", "message": "moderated"}}
        expires_at = int(EPOCH + self.now() + 86_400)
        videos = [{"url": [f"https://cdn.test/{task.task_id}.mp4"], "expires_at": expires_at}]
        return seen | {"status": "completed", "progress": 100, "cost": self.cost, "result": {"videos": videos}}

    # Uploads

    async def upload(self, path: Path) -> Reply:
        """Deal with an upload; each gets a link of its own."""
        content = path.read_bytes()
        self.uploads.append((self.now(), path.name, content))
        self._uploading += 1
        self.most_uploads_at_once = max(self.most_uploads_at_once, self._uploading)
        number = len(self.uploads)
        try:
            await anyio.sleep(self.upload_latency)
        finally:
            self._uploading -= 1
        fault = self.upload_script.popleft() if self.upload_script else None
        if fault is None and self.on_upload:
            fault = self.on_upload(path)
        if isinstance(fault, Exception):
            raise fault
        return fault if isinstance(fault, Reply) else reply(200, {"url": f"https://upload.test/{number}/{path.name}"})

    # Clips

    @asynccontextmanager
    async def fetch(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[FakeTransfer]:
        """Deal with a download."""
        self.fetches.append((self.now(), url, dict(headers)))
        await anyio.sleep(self.latency)
        fault = self.fetch_script.popleft() if self.fetch_script else None
        if fault is None and self.on_fetch:
            fault = self.on_fetch(url)
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, Reply):
            yield FakeTransfer(fault.status, dict(fault.headers), fault.body)
            return
        content = mp4(url)
        head = {"content-length": str(len(content)), "etag": '"one"'}
        start = int(headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in headers else 0
        if start:
            head["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            head["content-length"] = str(len(content) - start)
        cut = len(content) // 2 if fault == "cut" else None
        yield FakeTransfer(206 if start else 200, head, content[start:], cut=cut, stalls=fault == "stall")


@dataclass
class FakeTransfer:
    """The body of one answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    cut: int | None = None
    stalls: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body in pieces, or break off."""
        content = self.content[: self.cut]
        for start in range(0, len(content), 8192):
            await anyio.sleep(0.01)
            if self.stalls and start:
                await anyio.sleep(30)
                raise TransportTimeout("no byte for 30 s")
            yield content[start : start + 8192]
        if self.cut is not None:
            raise TransportError("connection reset")


class FakeTransport:
    """The port, spoken by a `Server`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_closed = False

    async def submit(self, body: bytes, idempotency_key: str) -> Reply:
        """POST."""
        return await self.server.submit(body, idempotency_key)

    async def check(self, task_id: str) -> Reply:
        """GET a task."""
        return await self.server.check(task_id)

    async def ask(self, path: str, body: bytes | None = None) -> Reply:
        """GET a page, or POST a question about many tasks."""
        if body is not None:
            return await self.server.check_many(json.loads(body)["task_ids"])
        await anyio.sleep(self.server.latency)
        return reply(200, {"success": True, "remain_balance": 12.5, "used_balance": 1}) if "balance" in path else HTML

    async def upload(self, path: Path) -> Reply:
        """POST a picture."""
        return await self.server.upload(path)

    def fetch(self, url: str, headers: Mapping[str, str]) -> Any:
        """GET a clip."""
        return self.server.fetch(url, headers)

    async def aclose(self) -> None:
        """Close."""
        self.is_closed = True


class FakeClient(OmniClient):
    """The real client, joined to a `Server`; its wall clock goes with the loop's. A ledger may be shared by several."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        *,
        limits: Limits | None = None,
        retry: Retry | None = None,
        polling: Polling | None = None,
        ledger: MemoryLedger | None = None,
        on_event: Callable[[Any], object] | None = None,
    ) -> None:
        self.server = server
        self.memory = ledger or MemoryLedger()
        self.fake_transport = FakeTransport(server)
        super().__init__(
            "sk-test", output_dir=folder, limits=limits, retry=retry, polling=polling, on_event=on_event, ledger=None
        )

    def _make_transport(self, base_url: str, api_key: str) -> FakeTransport:
        return self.fake_transport

    def _make_ledger(self) -> MemoryLedger:
        return self.memory

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self._house is not None
        self._house.roster.wall = lambda: EPOCH + asyncio.get_running_loop().time()
        return self


def script(faults: Iterable[Fault]) -> deque[Fault]:
    """Give a script of faults; None lets a request pass."""
    return deque(faults)


def left_over() -> list[asyncio.Task[Any]]:
    """Give the asyncio tasks that the library has left running."""
    return [task for task in asyncio.all_tasks() if "omni_async" in repr(task) and task is not asyncio.current_task()]


class Abandoned(Exception):
    """What a block is left by in tests."""


AnyClient = TypeVar("AnyClient", bound=OmniClient)


@asynccontextmanager
async def left_by_error(client: AnyClient) -> AsyncIterator[AnyClient]:
    """Open a client for this block, and leave it by an error at the block's end."""
    with suppress(Abandoned):
        async with client:
            yield client
            raise Abandoned


class SlowLedger(MemoryLedger):
    """Writes at the call, as every ledger does, but takes its time to be sure of it: what comes between shows races."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__()
        self.seconds = seconds

    def insert(self, record: JobRecord) -> Any:
        """Insert now, be sure later."""
        return self._later(super().insert(record))

    def save(self, record: JobRecord) -> Any:
        """Save now, be sure later."""
        return self._later(super().save(record))

    def find(self, key: str) -> Any:
        """Find now, tell later."""
        return self._later(super().find(key))

    def _later(self, sure: Awaitable[Any]) -> _Later:
        return _Later(sure, self.seconds)


@dataclass
class _Later:
    sure: Awaitable[Any]
    seconds: float

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(self.seconds).__await__()
        return (yield from self.sure.__await__())
