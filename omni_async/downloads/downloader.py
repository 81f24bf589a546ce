"""`Downloader`: transfers the clips of finished jobs, a limited number at a time, and records the outcome.

Used by the runtime of a client: the poller and the dispatcher give it jobs.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

import anyio

from ..errors import DownloadError, LedgerError
from ..jobs.lifecycle import JobStatus
from ..timing import WakeEvent, raise_if_cancelled
from .download import ClipDownload, DownloadCancelled, DownloadContext, download_failed
from .slots import DownloadSlots

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..settings import Limits, Retry
    from .clip_store import ClipStore
    from .slots import DownloadSlot


class Downloader:
    """Transfers the clips of jobs that the server has finished."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        clips: ClipStore,
        *,
        limits: Limits,
        retry: Retry,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._clock = registry.clock
        self._clips = clips
        self._retry = retry
        self._context = DownloadContext(transport, registry, clips, retry=retry, jitter=jitter)
        self._slots = DownloadSlots(limits.max_downloads, registry.clock)
        self._waiting: deque[JobState] = deque()
        self._wake = WakeEvent()
        self._downloaded = 0  # clips, and the seconds that they took together
        self._seconds = 0.0

    async def prepare(self) -> None:
        """Check that clips can be stored. Raise `OSError`."""
        await self._clips.prepare()

    @property
    def mean_seconds(self) -> float | None:
        """The mean duration of a transfer so far; None before the first is complete."""
        return self._seconds / self._downloaded if self._downloaded else None

    def add(self, job: JobState) -> None:
        """Transfer the clips of a job. Those of a completed job are transferred only if they are gone or incomplete."""
        self._waiting.append(job)
        self._wake.set()

    async def run(self) -> None:
        """Transfer the clips of the jobs that `add` receives, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                while self._waiting:
                    slot = await self._slots.acquire()
                    group.start_soon(self._serve, self._waiting.popleft(), slot)
                await self._wake.wait(None)

    async def _serve(self, job: JobState, slot: DownloadSlot) -> None:
        job.add_done_callback(lambda _: slot.job_done())
        try:
            if job.status is JobStatus.COMPLETED and not await self._resolve_complete(job):
                await self._registry.persist(self._registry.transition(job, JobStatus.DOWNLOADING, paths=()))
            if job.status is JobStatus.DOWNLOADING:
                await self._download_all(job, slot)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it ends this job and no other
            raise_if_cancelled(error)
            self._registry.fail_unexpectedly(job, error, "downloaded")
        finally:
            slot.release()

    async def _resolve_complete(self, job: JobState) -> bool:
        """Resolve a completed job if its clips are still there and complete. Return whether they are."""
        names = job.record.paths
        if not names or not all([await self._clips.has(name) for name in names]):
            return False
        self._registry.resolve(job, self._clips.root / names[0])
        return True

    async def _download_all(self, job: JobState, slot: DownloadSlot) -> None:
        error: DownloadError | None = None
        names: list[str] = []
        try:
            first = await self._claim_name(job, 0)
            for index in range(await self._count_videos(job, slot, first)):
                name = await self._claim_name(job, index) if index else first
                since = self._clock.now()
                await ClipDownload(self._context, job, index, name, slot).run()
                names.append(name)
                self._downloaded += 1
                self._seconds += self._clock.now() - since
        except DownloadCancelled:
            return
        except LedgerError as failure:
            error = download_failed(job, self._clips.root, str(failure))
        except DownloadError as failure:
            error = failure
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - whatever it is, it ends this job and no other
            raise_if_cancelled(failure)
            self._registry.log_unexpected(job, failure, "downloaded")
            error = download_failed(job, self._clips.root, f"unexpected {type(failure).__name__}: {failure}")
        if job.done():  # it was cancelled after the last byte
            return
        if error is not None:
            await self._registry.persist(self._registry.transition(job, JobStatus.DOWNLOAD_FAILED, error=str(error)))
            self._registry.resolve(job, error)
        else:
            facts = {
                "paths": tuple(names),
                "finished_at": self._clock.wall(),
                "error": "",
                "partial_download": None,
            }
            await self._registry.persist(self._registry.transition(job, JobStatus.COMPLETED, **facts))
            self._registry.resolve(job, self._clips.root / names[0])

    async def _count_videos(self, job: JobState, slot: DownloadSlot, name: str) -> int:
        """Return how many videos the task has. Check the task if that is not known."""
        attempts, since = 0, self._clock.now()
        while job.task is None or not job.task.videos:
            failure = await self._context.urls.refresh(job)
            if failure is None:
                continue
            if failure.is_final_after(attempts) or self._clock.now() - since > self._retry.timeout:
                raise download_failed(job, self._clips.root / name, failure.reason)
            since += await self._context.back_off(slot, failure, attempts)
            if job.done():
                raise DownloadCancelled
            attempts += 1
        return len(job.task.videos)

    async def _claim_name(self, job: JobState, index: int) -> str:
        return await self._registry.store.claim_filename(job.key, index)
