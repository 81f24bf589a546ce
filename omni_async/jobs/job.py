"""The awaitable that stands for one job: any number of waiters, none of whom can harm it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..models.request import VideoRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..models.responses import Task
    from .lifecycle import JobStatus
    from .records import JobRecord


class JobOwner(Protocol):
    """What a job asks of the client it belongs to."""

    def check_loop(self) -> None: ...
    def cancel(self, job: Job) -> bool: ...
    def extend(self, job: Job, prompt: str, key: str | None, fields: dict[str, Any]) -> Job: ...


class Job:
    """One piece of remote work and its clip, as `OmniClient.submit` returns it.

    ``path = await job`` gives the `pathlib.Path` of the downloaded MP4, or raises what went wrong (see
    `omni_async.OmniError`). It may be awaited any number of times, by any number of asyncio tasks; cancelling one of
    them never cancels the job. Made by a client, never by hand.
    """

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_callbacks",
        "_cancel_requested",
        "_children",
        "_duplicate_of",
        "_ended",
        "_is_admitted",
        "_is_told",
        "_outcome",
        "_owner",
        "_parent",
        "_record",
        "_task",
    )

    def __init__(self, keeper: JobOwner, record: JobRecord, parent: Job | None = None) -> None:
        self._owner = keeper
        self._record = record
        self._task: Task | None = None
        self._parent = parent
        self._duplicate_of: Job | None = None  # the live job of the same task, whose end will be this one's
        self._children: list[Job] | None = None  # those that wait for this one to be finished on the server
        self._outcome: Path | BaseException | None = None
        self._is_admitted = False  # the ledger has been asked about its key
        self._is_told = False  # whoever listens has heard of it
        self._cancel_requested = False
        self._accepted: asyncio.Event | None = None  # made when somebody waits
        self._ended: asyncio.Event | None = None
        self._callbacks: list[Callable[[Job], None]] | None = None

    # What it is

    @property
    def key(self) -> str:
        """Our name for it, also of its file; exists before anything is sent."""
        return self._record.key

    @property
    def task_id(self) -> str | None:
        """The server's name for it; None until accepted."""
        return self._record.task_id

    @property
    def status(self) -> JobStatus:
        """Where it stands now."""
        return self._record.status

    @property
    def progress(self) -> float:
        """How far the server says it is, in percent."""
        if self._record.paths:
            return 100.0
        return (self._task.progress if self._task else None) or 0.0

    @property
    def request(self) -> VideoRequest | None:
        """What was asked for; None for a task that was submitted elsewhere."""
        return VideoRequest.from_json(self._record.request) if self._record.request else None

    @property
    def task(self) -> Task | None:
        """The last reply about its task; None before the first check."""
        return self._task

    @property
    def cost(self) -> float | None:
        """What the server charged, in USD; None until it says so."""
        return self._record.cost

    @property
    def paths(self) -> tuple[Path, ...]:
        """The clips on disk, all of them; empty until they are whole."""
        return tuple(Path(path) for path in self._record.paths)

    # What one does with it

    def done(self) -> bool:
        """Tell whether awaiting it gives its path, or its error, at once."""
        return self._outcome is not None

    def cancel(self) -> bool:
        """Give it up; False if it has ended already.

        A job not sent yet costs nothing. One that the server has accepted goes on there and is billed: the API has no
        way to stop it; its `task_id` stays known, and `OmniClient.attach` can follow it again. Awaiting it raises
        `JobCancelled`.
        """
        return not self.done() and self._owner.cancel(self._duplicate_of or self)

    def extend(self, prompt: str, *, key: str | None = None, **fields: Any) -> Job:
        """Submit a job that goes on from this one (`extend_from_task_id`), as soon as the server has finished it.

        Model, aspect ratio and resolution are those of this job unless given; to another model, only what that takes
        is handed down. Awaiting it raises `ParentFailed` if this job comes to nothing; then nothing is sent.

        Raises `ValueError` as `OmniClient.submit` does, also for a model that cannot go on from another clip.
        """
        return self._owner.extend(self, prompt, key, fields)

    async def accepted(self) -> str:
        """Wait until the server has accepted it, and give its task_id; raises what went wrong before that."""
        while self.task_id is None and not self.done():
            self._owner.check_loop()
            self._accepted = self._accepted or asyncio.Event()
            await self._accepted.wait()
        if self.task_id is None:
            self._result()
        assert self.task_id is not None
        return self.task_id

    def __await__(self) -> Generator[Any, None, Path]:
        if self._outcome is None:
            yield from self._wait().__await__()
        return self._result()

    async def _wait(self) -> None:
        self._owner.check_loop()
        self._ended = self._ended or asyncio.Event()
        await self._ended.wait()

    def _result(self) -> Path:
        assert self._outcome is not None
        if isinstance(self._outcome, Path):
            return self._outcome
        raise self._outcome.with_traceback(None)  # else each waiter would see the tracebacks of those before

    def __repr__(self) -> str:
        task = f" task_id={self.task_id}" if self.task_id else ""
        return f"<Job {self.key!r} {self.status}{task}>"

    # What the rooms do with it

    @property
    def _is_unread(self) -> bool:
        """True while nothing but its key is known: it is to be bought again, and the ledger has not been asked yet."""
        return not self._is_admitted and not self._record.request and self._record.task_id is None

    def _add_done_callback(self, callback: Callable[[Job], None]) -> None:
        """Call this once it is done: at once if it is."""
        if self.done():
            callback(self)
        else:
            self._callbacks = self._callbacks or []
            self._callbacks.append(callback)

    def _notify_accepted(self) -> None:
        """Wake those who waited for its task_id."""
        waited_for, self._accepted = self._accepted, None  # an Event is a quarter of what a job weighs
        if waited_for is not None:
            waited_for.set()

    def _resolve(self, outcome: Path | BaseException) -> None:
        self._outcome = outcome
        self._parent = None
        callbacks, self._callbacks = self._callbacks or (), None
        self._notify_accepted()
        if self._ended is not None:
            self._ended.set()
        for callback in callbacks:
            callback(self)
