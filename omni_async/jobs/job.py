"""`Job`, the handle that users await, and `JobState`, what the stages know of the same job.

Any number of waiters may hold a `Job`; it has only what users may call. The registry and the stages of the client pass
the `JobState` behind it to each other.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..models.request import VideoRequest
from .html import job_html

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..models.responses import Task
    from .lifecycle import JobStatus
    from .records import JobRecord


class JobOwner(Protocol):
    """What a job asks of the client that made it."""

    def check_loop(self) -> None:
        """Raise `RuntimeError` in any event loop but the client's."""

    def cancel(self, state: JobState) -> bool:
        """Cancel a job. Return False if it is done already."""

    def extend(self, job: Job, prompt: str | None, key: str | None, name: str | None, fields: dict[str, Any]) -> Job:
        """Submit a job that extends another one."""

    def clip_path(self, name: str) -> Path:
        """Return the path of a clip, given its file name."""


class JobState:
    """One job as the stages see it: its record, its relatives, and who waits for it.

    Only the registry changes `record`, `task`, `parent`, `children` and the outcome, so that each change is checked,
    saved and announced. `job` is the handle that users hold, until the job is done.
    """

    # As small as it can be: a client may hold a hundred thousand of them.
    __slots__ = (
        "_advanced",
        "_callbacks",
        "_ended",
        "cancel_requested",
        "children",
        "duplicate_of",
        "is_admitted",
        "is_announced",
        "is_recorded",
        "job",
        "outcome",
        "parent",
        "record",
        "task",
    )

    def __init__(self, record: JobRecord, parent: JobState | None = None) -> None:
        self.record: JobRecord = record
        self.task: Task | None = None  # the last reply to a check
        self.job: Job | None = None
        self.parent = parent
        self.children: list[JobState] | None = None  # the jobs that wait until this one is finished on the server
        self.duplicate_of: JobState | None = None  # the live job of the same task, whose outcome this one will get
        self.outcome: Path | BaseException | None = None
        self.is_admitted: bool = False  # the store was asked about its key
        self.is_announced: bool = False  # the listener was told of it
        self.is_recorded: bool = False  # its row is durable
        self.cancel_requested: bool = False
        # An event takes a quarter of the memory of a job, so it is made only when somebody waits.
        self._advanced: asyncio.Event | None = None  # for those who wait until it is recorded, or accepted
        self._ended: asyncio.Event | None = None
        self._callbacks: list[Callable[[JobState], None]] | None = None

    @property
    def key(self) -> str:
        """Our name for the job."""
        return self.record.key

    @property
    def task_id(self) -> str | None:
        """The server's id of its task; None until accepted."""
        return self.record.task_id

    @property
    def status(self) -> JobStatus:
        """Its present status."""
        return self.record.status

    @property
    def request(self) -> VideoRequest | None:
        """What to generate; None for a task that was submitted elsewhere. Raise `ValueError` if it cannot be read."""
        return VideoRequest.from_json(self.record.request) if self.record.request else None

    @property
    def progress(self) -> float:
        """What the server reported last, in percent; 100 once the clips are on disk."""
        if self.record.paths:
            return 100.0
        return (self.task.progress if self.task else None) or 0.0

    @property
    def is_unread(self) -> bool:
        """Whether only the key is known: it is to be resubmitted, and the store has not answered yet."""
        return not self.is_admitted and not self.record.request and self.record.task_id is None

    def done(self) -> bool:
        """Return whether the job has an outcome."""
        return self.outcome is not None

    async def wait_recorded(self) -> None:
        """Wait until the row of the job is durable, or the job has an outcome."""
        while not self.is_recorded and not self.done():
            await self._wait_advanced()

    async def wait_accepted(self) -> None:
        """Wait until the job has a task_id or an outcome."""
        while self.record.task_id is None and not self.done():
            await self._wait_advanced()

    async def _wait_advanced(self) -> None:
        self._advanced = self._advanced or asyncio.Event()
        await self._advanced.wait()

    async def wait_done(self) -> None:
        """Wait until the job has an outcome."""
        if not self.done():
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()

    def result(self) -> Path:
        """Return the first clip, or raise what went wrong. The job must be done."""
        assert self.outcome is not None
        if isinstance(self.outcome, Path):
            return self.outcome
        raise self.outcome.with_traceback(None)  # else each waiter would see the tracebacks of those before

    def add_done_callback(self, callback: Callable[[JobState], None]) -> None:
        """Call `callback(state)` when the job is done; immediately if it is."""
        if self.done():
            callback(self)
        else:
            self._callbacks = self._callbacks or []
            self._callbacks.append(callback)

    def mark_recorded(self) -> None:
        """Note that the row of the job is durable, and wake everyone who waits for that."""
        self.is_recorded = True
        self.notify_advanced()

    def notify_advanced(self) -> None:
        """Wake everyone who waits until the job is recorded, or accepted: each looks whether it is."""
        waited_for, self._advanced = self._advanced, None
        if waited_for is not None:
            waited_for.set()

    def resolve(self, outcome: Path | BaseException) -> None:
        """Set the outcome, wake everyone who waits for it, and call the callbacks. Called by the registry, once."""
        self.outcome = outcome
        self.parent = None
        callbacks, self._callbacks = self._callbacks or (), None
        self.notify_advanced()
        if self._ended is not None:
            self._ended.set()
        for callback in callbacks:
            callback(self)
        self.job = None  # else the two would keep each other alive until the garbage collector runs


class Job:
    """One piece of remote work and its clip, as `OmniClient.submit` returns it.

    Await it for the `pathlib.Path` of the downloaded MP4, or for the error (see `omni_async.OmniError`)::

        job = client.submit("a red apple on a wooden table")
        print(job.key, await job.accepted())
        path = await job

    It may be awaited any number of times, by any number of asyncio tasks. Cancelling one of them never cancels the job.
    `asyncio.gather`, `asyncio.wait_for` and `asyncio.as_completed` take a job as it is. `asyncio.create_task`,
    `TaskGroup.create_task` and `asyncio.wait` need a coroutine: give them `job.wait()`.

    Clients make jobs; do not make one yourself.
    """

    __slots__ = ("__weakref__", "_owner", "_state")

    def __init__(self, owner: JobOwner, state: JobState) -> None:
        self._owner = owner
        self._state = state
        state.job = self

    @property
    def key(self) -> str:
        """Our name for the job, and for its file. It exists before anything is sent."""
        return self._state.key

    @property
    def task_id(self) -> str | None:
        """The server's id of its task; None until accepted."""
        return self._state.task_id

    @property
    def status(self) -> JobStatus:
        """Its present status."""
        return self._state.status

    @property
    def progress(self) -> float:
        """What the server reported last, in percent; 100 once the clips are on disk."""
        return self._state.progress

    @property
    def request(self) -> VideoRequest | None:
        """What to generate; None for a task that was submitted elsewhere."""
        return self._state.request

    @property
    def task(self) -> Task | None:
        """The server's last reply about its task; None before the first check."""
        return self._state.task

    @property
    def cost(self) -> float | None:
        """What the server charged, in USD; None until the server has reported it."""
        return self._state.record.cost

    @property
    def paths(self) -> tuple[Path, ...]:
        """The absolute paths of the clips, most often one; empty until all of them are complete."""
        return tuple(self._owner.clip_path(name) for name in self._state.record.paths)

    def as_json(self) -> dict[str, Any]:
        """Return what is known of the job as JSON: the fields of `omni-async status --json`, and `progress`."""
        record = replace(self._state.record, paths=tuple(map(str, self.paths)))
        return {**record.as_json(), "progress": self.progress}

    def done(self) -> bool:
        """Return whether awaiting the job returns, or raises, without waiting."""
        return self._state.done()

    def cancel(self) -> bool:
        """Cancel the job. Return False if it is done already. Awaiting it then raises `JobCancelled`.

        A job that was not sent yet costs nothing. A task that the server has accepted continues there and is billed,
        because the API cannot stop it. Its `task_id` stays known: `OmniClient.attach` can follow it again.
        """
        return not self.done() and self._owner.cancel(self._state.duplicate_of or self._state)

    def extend(self, prompt: str | None, *, key: str | None = None, name: str | None = None, **fields: Any) -> Job:
        """Submit a job that continues this clip (`extend_from_task_id`), as soon as the server has finished it.

        `prompt` says what happens next; None leaves it out, where images say it. `key` names the new job (default: made
        from the prompt), `name` its file (default: the key), `fields` are those of `VideoRequest`. Model, aspect ratio
        and resolution are those of this job unless given. For another model, only what that model accepts is inherited.

        Awaiting the new job raises `ParentFailed` if this one has no result; then nothing is sent for it.

        Raise `ValueError` as `OmniClient.submit` does, also for a model that cannot extend clips.
        """
        return self._owner.extend(self, prompt, key, name, fields)

    async def recorded(self) -> None:
        """Wait until the job is in the ledger: from here on it outlives the process, even if that is killed.

        A web service waits for this before it promises a clip. Raise what went wrong before that.
        """
        state = self._state.duplicate_of or self._state
        if not state.is_recorded and not state.done():
            self._owner.check_loop()
            await state.wait_recorded()
        if not state.is_recorded:
            state.result()

    async def accepted(self) -> str:
        """Wait until the server has accepted the job. Return its task_id, or raise what went wrong before that."""
        if self.task_id is None and not self.done():
            self._owner.check_loop()
            await self._state.wait_accepted()
        if self.task_id is None:
            self._state.result()
        assert self.task_id is not None
        return self.task_id

    async def wait(self) -> Path:
        """Return what awaiting the job returns, as a coroutine: for `asyncio.create_task` and `asyncio.wait`."""
        if not self.done():
            self._owner.check_loop()
            await self._state.wait_done()
        return self._state.result()

    def __await__(self) -> Generator[Any, None, Path]:
        return self.wait().__await__()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the clips once they are there, before that the status."""
        return job_html(self._state.record, self.progress, self.paths, self._state.outcome)

    def __repr__(self) -> str:
        task = f" task_id={self.task_id}" if self.task_id else ""
        return f"<Job {self.key!r} {self.status}{task}>"


def state_of(job: Job) -> JobState:
    """Return the state behind a handle, for the client's own use."""
    return job._state
