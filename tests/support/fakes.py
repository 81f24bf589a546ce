"""The in-memory server and client of the library's own tests, with short names for common faults."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import anyio

from omni_async import Limits, OmniClient, Polling, Retry, TransportError, TransportTimeout
from omni_async.api.parsing import Response
from omni_async.ledger import MemoryJobStore
from omni_async.testing.fake_clips import box, mp4
from omni_async.testing.faults import HTML, MEMORY_FAULTS, MemoryFault, refusal, response
from omni_async.testing.memory_client import EPOCH, MemoryClient
from omni_async.testing.memory_server import Fault, MemoryServer
from omni_async.testing.records import PaidTask, ReceivedSubmit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
    from pathlib import Path

    from omni_async.jobs.records import JobRecord

__all__ = ["EPOCH", "HTML", "FakeTask", "Fault", "Post", "box", "mp4", "refusal", "response"]

Post = ReceivedSubmit
FakeTask = PaidTask


def not_sent() -> TransportError:
    """Return the error of a request of which no byte was sent."""
    return TransportError("no connection to the server", sent=False)


@dataclass
class Server(MemoryServer):
    """A server with short names for faults, which also answers queries and stores uploads."""

    uploads: list[tuple[float, str, bytes]] = field(default_factory=list)  # time, file name, content
    max_concurrent_uploads: int = 0
    upload_latency: float = 0.5
    upload_script: deque[Fault] = field(default_factory=deque)
    on_upload: Callable[[Path], Fault] | None = None
    _uploading: int = 0

    memory_faults: ClassVar[Mapping[str, MemoryFault]] = {
        **MEMORY_FAULTS,
        "lost": MEMORY_FAULTS["drop_after"],
        "lost 502": MemoryFault(kind="submit", reply=HTML, is_accepted=True),
        "cut": MEMORY_FAULTS["cut_download"],
        "stall": MEMORY_FAULTS["stall_download"],
    }

    async def get(self, path: str) -> Response:
        """Return the balance and schemas, and a gateway's error page for other paths."""
        found = await super().get(path)
        return HTML if found.status == 404 else found

    async def upload(self, path: Path) -> Response:
        """Answer an upload with a new URL."""
        content = path.read_bytes()
        self.uploads.append((self.now(), path.name, content))
        self._uploading += 1
        self.max_concurrent_uploads = max(self.max_concurrent_uploads, self._uploading)
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
        return (
            fault
            if isinstance(fault, Response)
            else response(200, {"url": f"https://upload.test/{number}/{path.name}"})
        )

    def fault_named(self, kind: str, name: str) -> MemoryFault:
        """Return the fault of a name; `hang` depends on the kind of request."""
        if name == "hang":
            seconds = 120.0 if kind == "submit" else 20.0
            return MemoryFault(kind=kind, reply=TransportTimeout(f"no answer within {seconds:g} s"), delay=seconds)
        return super().fault_named(kind, name)


class FakeTransport:
    """A connection to a `Server` that records whether it was closed."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.submit, self.check, self.stream = server.submit, server.check, server.stream
        self.get, self.upload = server.get, server.upload
        self.is_closed = False

    async def aclose(self) -> None:
        """Close."""
        self.is_closed = True


class FakeClient(MemoryClient):
    """The real client connected to a `Server`. Several can share a ledger."""

    def __init__(
        self,
        server: MemoryServer,
        folder: Path,
        *,
        limits: Limits | None = None,
        retry: Retry | None = None,
        polling: Polling | None = None,
        ledger: MemoryJobStore | None = None,
        on_event: Callable[[Any], object] | None = None,
    ) -> None:
        self.server = server
        self.memory = ledger or MemoryJobStore()
        self.fake_transport = FakeTransport(server)
        settings: dict[str, Any] = {"limits": limits, "retry": retry, "polling": polling, "on_event": on_event}
        super().__init__(self.fake_transport, ledger=self.memory, api_key="sk-test", output_dir=folder, **settings)


def script(faults: Iterable[Fault]) -> deque[Fault]:
    """Return a script of faults; None lets a request pass."""
    return deque(faults)


def left_over() -> list[asyncio.Task[Any]]:
    """Return the asyncio tasks of the library that are still running."""
    return [task for task in asyncio.all_tasks() if "omni_async" in repr(task) and task is not asyncio.current_task()]


class Abandoned(Exception):
    """The error that leaves a client's block in tests."""


AnyClient = TypeVar("AnyClient", bound=OmniClient)


@asynccontextmanager
async def left_by_error(client: AnyClient) -> AsyncIterator[AnyClient]:
    """Open a client for this block, and leave it by an error at the end."""
    with suppress(Abandoned):
        async with client:
            yield client
            raise Abandoned


class SlowLedger(MemoryJobStore):
    """A ledger that writes immediately but confirms late, so that races become visible."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__()
        self.seconds = seconds

    def insert(self, record: JobRecord) -> Any:
        """Insert immediately, confirm later."""
        return self._confirm_later(super().insert(record))

    def save(self, record: JobRecord) -> Any:
        """Save immediately, confirm later."""
        return self._confirm_later(super().save(record))

    def find(self, key: str) -> Any:
        """Find immediately, return later."""
        return self._confirm_later(super().find(key))

    def _confirm_later(self, commit: Awaitable[Any]) -> _DelayedCommit:
        return _DelayedCommit(commit, self.seconds)


@dataclass
class _DelayedCommit:
    commit: Awaitable[Any]
    seconds: float

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(self.seconds).__await__()
        return (yield from self.commit.__await__())
