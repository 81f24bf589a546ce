"""`FleetJob`: a job of a fleet, for the program that waits for its clip. `Fleet` makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import DownloadError, JobTimedOut
from ..jobs.failures import error_from_record
from ..jobs.lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from pathlib import Path

    from ..jobs.records import JobRecord


EndedJob: TypeAlias = "tuple[JobRecord, tuple[Path | str, ...]]"
"""The record of a job that has ended, and where its clips are."""


class FleetJob:
    """A job of a fleet, from its key. Await it for its clip, any number of times: ``path = await fleet.job(key)``.

    The result is the path of the clip in the folder of the fleet's clips, or its URL in their object store. If there is
    none, the error of the job is raised, as by a `Job`: nothing here cancels or submits it.
    """

    def __init__(self, key: str, wait: Callable[[str], Awaitable[EndedJob]]) -> None:
        self._wait = wait
        self.key: str = key
        self.record: JobRecord | None = None  # as it was when it ended; None before
        self.paths: tuple[Path | str, ...] = ()  # of its clips, or their URLs

    def __repr__(self) -> str:
        return f"<FleetJob {self.key!r} {self.record.status if self.record else 'not awaited yet'}>"

    def __await__(self) -> Generator[Any, None, Path | str]:
        return self.wait().__await__()

    @property
    def status(self) -> JobStatus | None:
        """The status with which it ended; None before."""
        return self.record.status if self.record else None

    @property
    def cost(self) -> float | None:
        """What it has cost in USD; None until it ended, or if the server has not reported it."""
        return self.record.cost if self.record else None

    async def ended(self) -> JobRecord:
        """Wait until the job has ended, successfully or not, and return its record. Raise `LedgerError`."""
        if self.record is None:
            self.record, self.paths = await self._wait(self.key)
        return self.record

    async def wait(self) -> Path | str:
        """Return what awaiting the job returns, as a coroutine: for `asyncio.create_task` and `asyncio.wait`."""
        record = await self.ended()
        if record.status is JobStatus.COMPLETED and self.paths:
            return self.paths[0]
        facts: dict[str, Any] = {"key": record.key, "task_id": record.task_id}
        if record.status is JobStatus.TIMED_OUT:
            raise JobTimedOut(record.error or f"job {record.key!r} timed out", **facts)
        if record.status is JobStatus.DOWNLOAD_FAILED:
            raise DownloadError(record.error or f"job {record.key!r}: its clip could not be stored")
        raise error_from_record(record)
