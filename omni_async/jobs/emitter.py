"""What is told to whoever listens: one frozen event for each thing that happens to a job; nothing where nobody does."""

from __future__ import annotations

import asyncio
import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OmniError
from .events import EventKind, JobEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..timing import Clock
    from .job import JobState
    from .lifecycle import JobStatus


_log = logging.getLogger("omni_async.events")


def validate_listener(on_event: Callable[[JobEvent], object] | None) -> Callable[[JobEvent], object] | None:
    """Give what is to hear events, if it can: a plain function, since nobody would await a coroutine."""
    if on_event is None:
        return None
    if not callable(on_event):
        raise TypeError(f"on_event must be a function that takes a JobEvent, not {type(on_event).__name__}")
    called = getattr(on_event, "func", on_event)  # of functools.partial
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None)):  # noqa: B004
        raise TypeError(
            "on_event must be a plain function: it is called in the midst of things, and nobody awaits it. To do "
            "something asynchronous, put the events into a queue (on_event=queue.put_nowait) and read that in a task"
        )
    return on_event


class EventEmitter:
    """Makes the events of one client and hands each to its listener, in the order in which things happen."""

    def __init__(self, listener: Callable[[JobEvent], object] | None, clock: Clock) -> None:
        self._listener = listener
        self._clock = clock

    # Jobs

    def admitted(self, job: JobState) -> None:
        """A job is new here."""
        if self._listener is not None:
            job.is_announced = True
            self._emit(job, EventKind.STATUS, previous=None)

    def changed(self, job: JobState, previous: JobStatus) -> None:
        """A job has another status."""
        if self._listener is not None:
            self._emit(job, EventKind.STATUS, previous=previous)

    def progress_changed(self, job: JobState) -> None:
        """The server tells another percentage."""
        if self._listener is not None:
            self._emit(job, EventKind.PROGRESS)

    def abandoned(self, job: JobState, reason: BaseException) -> None:
        """A job's waiters get an error; this tells it, unless its status has told that it ended."""
        if self._listener is not None and job.is_announced and not job.status.is_final:
            self._emit(job, EventKind.ABANDONED, **_about(reason))

    # Requests, each when it is over

    def submitted(self, job: JobState, seconds: float, error: BaseException | None) -> None:
        """A POST is over."""
        if self._listener is not None:
            self._emit(job, EventKind.SUBMIT, seconds=seconds, **_about(error))

    def checked(self, job: JobState, seconds: float, error: BaseException | None) -> None:
        """A status request is over."""
        if self._listener is not None:
            self._emit(job, EventKind.CHECK, seconds=seconds, **_about(error))

    def bytes_received(self, job: JobState, **facts: Any) -> None:
        """More of a clip has come."""
        if self._listener is not None:
            self._emit(job, EventKind.DOWNLOAD_PROGRESS, **facts)

    def downloaded(self, job: JobState, seconds: float, reason: str, **facts: Any) -> None:
        """A request for a clip is over; `reason` says why the whole clip is not here yet."""
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
            path=Path(record.paths[0]) if record.paths else None,
            submits=record.submits,
            parent=record.parent,
            request=record.request,
            **common | facts,
        )
        try:
            heard = self._listener(event)
            if inspect.iscoroutine(heard):
                heard.close()
                raise TypeError("on_event gave a coroutine, which nobody awaits: it must be a plain function")
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever a stranger's code raises, the job goes on
            _log.exception("on_event raised for %r; the job goes on", event)


def _about(error: BaseException | None) -> dict[str, Any]:
    """Give what an event tells of an error; of none, that there was none."""
    if error is None:
        return {"error": ""}
    status = getattr(error, "status", None) if isinstance(error, OmniError) else None
    return {"error": str(error) or type(error).__name__, "error_type": type(error).__name__, "http_status": status}
