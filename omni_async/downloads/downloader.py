"""Brings finished jobs to their end: so many at once, each with all its clips on disk, or with what was in the way."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

import anyio

from ..errors import DownloadError, LedgerError
from ..jobs.lifecycle import JobStatus
from ..timing import Bell
from .download import Fetch, GivenUp, Source, undelivered
from .partfile import is_whole, prepare_folder
from .slots import Places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..api.transport import Transport
    from ..jobs.job import Job
    from ..jobs.registry import Roster
    from ..settings import Limits, Retry
    from .slots import Place


class Downloader:
    """Fetches the clips of jobs that the server has finished."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        folder: Path,
        *,
        limits: Limits,
        retry: Retry,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._roster = roster
        self._folder = folder
        self._retry = retry
        self._source = Source(transport, roster, retry=retry, at_once=limits.max_downloads, dice=dice)
        self._places = Places(limits.max_downloads)
        self._waiting: deque[Job] = deque()
        self._bell = Bell()
        self._fetched = 0  # clips, and the time that they took
        self._seconds = 0.0

    async def prepare(self) -> None:
        """Make the folder and see that files can be put there. Raises `OSError`."""
        await self._source.in_thread(prepare_folder, self._folder)

    @property
    def mean_seconds(self) -> float | None:
        """How long a clip has taken on its way so far; None before the first."""
        return self._seconds / self._fetched if self._fetched else None

    def put(self, job: Job) -> None:
        """Fetch the clips of this job; of one that is said to be completed, only if they are not there and whole."""
        self._waiting.append(job)
        self._bell.ring()

    async def run(self) -> None:
        """Fetch what comes, for ever."""
        async with anyio.create_task_group() as group:
            while True:
                while self._waiting:
                    place = await self._places.take()
                    group.start_soon(self._serve, self._waiting.popleft(), place)
                await self._bell.wait(None)

    async def _serve(self, job: Job, place: Place) -> None:
        job._when_done(lambda _: place.end())
        try:
            if job.status is JobStatus.COMPLETED and not await self._stands(job):
                await self._roster.sure(self._roster.move(job, JobStatus.DOWNLOADING, paths=()))
            if job.status is JobStatus.DOWNLOADING:
                await self._deliver(job, place)
        finally:
            place.leave()

    async def _stands(self, job: Job) -> bool:
        """End a completed job with its files, if they still stand and are whole: where they were put, or moved to."""
        for paths in (job.paths, tuple(self._folder / path.name for path in job.paths)):
            if paths and all([await self._source.in_thread(is_whole, path) for path in paths]):
                if paths != job.paths:
                    await self._roster.sure(self._roster.note(job, paths=tuple(map(str, paths))))
                self._roster.end(job, paths[0])
                return True
        return False

    async def _deliver(self, job: Job, place: Place) -> None:
        error: DownloadError | None = None
        paths: list[Path] = []
        try:
            first = await self._path(job, 0)
            for index in range(await self._count_videos(job, place, first)):
                path = await self._path(job, index) if index else first
                since = _now()
                paths.append(await Fetch(self._source, job, index, path, place).run())
                self._fetched += 1
                self._seconds += _now() - since
        except GivenUp:
            return
        except LedgerError as trouble:
            error = undelivered(job, self._folder, str(trouble))
        except DownloadError as failure:
            error = failure
        if job.done():  # cancelled at the last moment
            return
        if error is not None:
            await self._roster.sure(self._roster.move(job, JobStatus.UNDELIVERED, error=str(error)))
            self._roster.end(job, error)
        else:
            facts = {"paths": tuple(map(str, paths)), "finished_at": self._roster.wall(), "error": "", "part": None}
            await self._roster.sure(self._roster.move(job, JobStatus.COMPLETED, **facts))
            self._roster.end(job, paths[0])

    async def _count_videos(self, job: Job, place: Place, path: Path) -> int:
        """Give how many videos there are to fetch, asking the task if that is not known."""
        attempts, since = 0, _now()
        while job.task is None or not job.task.videos:
            trouble = await self._source.links.renew(job)
            if trouble is None:
                continue
            if trouble.is_hopeless(attempts) or _now() - since > self._retry.budget:
                raise undelivered(job, path, trouble.reason)
            since += await self._source.rest(place, trouble, attempts)
            if job.done():
                raise GivenUp
            attempts += 1
        return len(job.task.videos)

    async def _path(self, job: Job, index: int) -> Path:
        return self._folder / await self._roster.ledger.claim(job.key, index)


def _now() -> float:
    return asyncio.get_running_loop().time()
