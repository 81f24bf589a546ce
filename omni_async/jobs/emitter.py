"""`EventEmitter`: builds a frozen `JobEvent` for each thing that happens to a job, and calls the listener.

Without a listener no event is built. The registry and the stages call it.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from ..errors import OmniError
from ..logs import get_logger
from .events import EventKind, JobEvent
from .exception_log import ExceptionLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..timing import Clock
    from .job import JobState
    from .lifecycle import JobStatus


_log = get_logger(__name__)


def validate_listener(on_event: Callable[[JobEvent], object] | None) -> Callable[[JobEvent], object] | None:
    """Return the user's `on_event`, or raise `TypeError` if it cannot be called as a plain function."""
    if on_event is None:
        return None
    if not callable(on_event):
        raise TypeError(f"on_event must be a function that takes a JobEvent, not {type(on_event).__name__}")
    called = getattr(on_event, "func", on_event)  # of functools.partial
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None)):  # noqa: B004
        raise TypeError(
            "on_event must be a plain function, because it is called between two steps and not awaited. To do "
            "something asynchronous, put the events into a queue (on_event=queue.put_nowait) and read that in a task"
        )
    return on_event


class EventEmitter:
    """Calls the listener of one client with each event, in the order in which things happen."""

    def __init__(
        self, listener: Callable[[JobEvent], object] | None, clock: Clock, clip_path: Callable[[str], Path]
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._clip_path = clip_path
        self._raised = ExceptionLog(_log, "on_event")

    def close(self) -> None:
        """Log how often the listener raised, unless that was logged already."""
        self._raised.close()

    # Jobs

    def admitted(self, job: JobState) -> None:
        """Emit that a job is new to this client."""
        if self._listener is not None:
            job.is_announced = True
            self._emit(job, EventKind.STATUS, previous=None)

    def changed(self, job: JobState, previous: JobStatus) -> None:
        """Emit that the status of a job has changed."""
        if self._listener is not None:
            self._emit(job, EventKind.STATUS, previous=previous)

    def progress_changed(self, job: JobState) -> None:
        """Emit that the server reports another percentage."""
        if self._listener is not None:
            self._emit(job, EventKind.PROGRESS)

    def abandoned(self, job: JobState, reason: BaseException) -> None:
        """Emit that nothing more is done for a job here, unless that follows from its status."""
        if self._listener is not None and job.is_announced and not job.status.is_final:
            self._emit(job, EventKind.ABANDONED, **_error_facts(reason))

    # Requests, each when it has ended

    def submitted(self, job: JobState, seconds: float, error: BaseException | None) -> None:
        """Emit that a POST has ended."""
        if self._listener is not None:
            self._emit(job, EventKind.SUBMIT, seconds=seconds, **_error_facts(error))

    def checked(self, job: JobState, seconds: float, error: BaseException | None) -> None:
        """Emit that a status request has ended."""
        if self._listener is not None:
            self._emit(job, EventKind.CHECK, seconds=seconds, **_error_facts(error))

    def bytes_received(self, job: JobState, **facts: Any) -> None:
        """Emit that more of a clip was received."""
        if self._listener is not None:
            self._emit(job, EventKind.DOWNLOAD_PROGRESS, **facts)

    def downloaded(self, job: JobState, seconds: float, reason: str, **facts: Any) -> None:
        """Emit that a request for a clip has ended; `reason` says why the clip is not complete yet."""
        if self._listener is not None:
            kind = "DownloadError" if reason else ""
            self._emit(job, EventKind.DOWNLOAD, seconds=seconds, error=reason, error_type=kind, **facts)

    def _emit(self, job: JobState, kind: EventKind, **facts: Any) -> None:
        assert self._listener is not None
        record = job.record
        common: dict[str, Any] = {"previous": record.status, "error": record.error}
        event = JobEvent(
            kind=kind,
            timestamp=self._clock.wall(),
            key=record.key,
            task_id=record.task_id,
            status=record.status,
            progress=job.progress,
            cost=record.cost,
            path=self._clip_path(record.paths[0]) if record.paths else None,
            submits=record.submits,
            parent=record.parent,
            request=record.request,
            **common | facts,
        )
        try:
            returned = self._listener(event)
            if inspect.iscoroutine(returned):
                returned.close()  # else Python warns that it was never awaited
                raise TypeError("on_event returned a coroutine, which is not awaited: it must be a plain function")
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, the job continues
            self._raised.report(error, "on_event raised for %r; the job continues", event)


def _error_facts(error: BaseException | None) -> dict[str, Any]:
    """Return what an event says about an error, or that there was none."""
    if error is None:
        return {"error": ""}
    status = getattr(error, "status", None) if isinstance(error, OmniError) else None
    return {"error": str(error) or type(error).__name__, "error_type": type(error).__name__, "http_status": status}
