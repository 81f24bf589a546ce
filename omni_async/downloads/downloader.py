"""Brings finished jobs to their end: so many at once, each with all its clips on disk, or with what was in the way."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

import anyio

from ..errors import DownloadError, LedgerError
from ..jobs.lifecycle import JobStatus
from ..timing import WakeEvent
from .download import ClipDownload, DownloadCancelled, DownloadContext, download_failed
from .partfile import is_complete, prepare_folder
from .slots import DownloadSlots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..settings import Limits, Retry
    from .slots import DownloadSlot


class Downloader:
    """Fetches the clips of jobs that the server has finished."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        folder: Path,
        *,
        limits: Limits,
        retry: Retry,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._retry = retry
        self._context = DownloadContext(
            transport, registry, retry=retry, max_threads=limits.max_downloads, jitter=jitter
        )
        self._slots = DownloadSlots(limits.max_downloads)
        self._waiting: deque[JobState] = deque()
        self._wake = WakeEvent()
        self._fetched = 0  # clips, and the time that they took
        self._seconds = 0.0

    async def prepare(self) -> None:
        """Make the folder and see that files can be put there. Raises `OSError`."""
        await self._context.in_thread(prepare_folder, self._folder)

    @property
    def mean_seconds(self) -> float | None:
        """How long a clip has taken on its way so far; None before the first."""
        return self._seconds / self._fetched if self._fetched else None

    def add(self, job: JobState) -> None:
        """Fetch the clips of this job; of one that is said to be completed, only if they are not there and whole."""
        self._waiting.append(job)
        self._wake.set()

    async def run(self) -> None:
        """Fetch what comes, for ever."""
        async with anyio.create_task_group() as group:
            while True:
                while self._waiting:
                    place = await self._slots.take()
                    group.start_soon(self._serve, self._waiting.popleft(), place)
                await self._wake.wait(None)

    async def _serve(self, job: JobState, place: DownloadSlot) -> None:
        job.add_done_callback(lambda _: place.end())
        try:
            if job.status is JobStatus.COMPLETED and not await self._stands(job):
                await self._registry.persist(self._registry.transition(job, JobStatus.DOWNLOADING, paths=()))
            if job.status is JobStatus.DOWNLOADING:
                await self._deliver(job, place)
        finally:
            place.release()

    async def _stands(self, job: JobState) -> bool:
        """End a completed job with its files, if they still stand and are whole: where they were put, or moved to."""
        for paths in (job.paths, tuple(self._folder / path.name for path in job.paths)):
            if paths and all([await self._context.in_thread(is_complete, path) for path in paths]):
                if paths != job.paths:
                    await self._registry.persist(self._registry.update(job, paths=tuple(map(str, paths))))
                self._registry.resolve(job, paths[0])
                return True
        return False

    async def _deliver(self, job: JobState, place: DownloadSlot) -> None:
        error: DownloadError | None = None
        paths: list[Path] = []
        try:
            first = await self._path(job, 0)
            for index in range(await self._count_videos(job, place, first)):
                path = await self._path(job, index) if index else first
                since = _now()
                paths.append(await ClipDownload(self._context, job, index, path, place).run())
                self._fetched += 1
                self._seconds += _now() - since
        except DownloadCancelled:
            return
        except LedgerError as trouble:
            error = download_failed(job, self._folder, str(trouble))
        except DownloadError as failure:
            error = failure
        if job.done():  # cancelled at the last moment
            return
        if error is not None:
            await self._registry.persist(self._registry.transition(job, JobStatus.DOWNLOAD_FAILED, error=str(error)))
            self._registry.resolve(job, error)
        else:
            facts = {
                "paths": tuple(map(str, paths)),
                "finished_at": self._registry.clock.wall(),
                "error": "",
                "partial_download": None,
            }
            await self._registry.persist(self._registry.transition(job, JobStatus.COMPLETED, **facts))
            self._registry.resolve(job, paths[0])

    async def _count_videos(self, job: JobState, place: DownloadSlot, path: Path) -> int:
        """Give how many videos there are to fetch, asking the task if that is not known."""
        attempts, since = 0, _now()
        while job.task is None or not job.task.videos:
            trouble = await self._context.urls.refresh(job)
            if trouble is None:
                continue
            if trouble.is_final_after(attempts) or _now() - since > self._retry.timeout:
                raise download_failed(job, path, trouble.reason)
            since += await self._context.back_off(place, trouble, attempts)
            if job.done():
                raise DownloadCancelled
            attempts += 1
        return len(job.task.videos)

    async def _path(self, job: JobState, index: int) -> Path:
        return self._folder / await self._registry.store.claim_filename(job.key, index)


def _now() -> float:
    return asyncio.get_running_loop().time()
