"""`Downloader`: transfers the clips of finished jobs, as many at once as is worth it, and records the outcome.

Used by the runtime of a client: the poller and the dispatcher give it jobs.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ..errors import DownloadError, LedgerError
from ..files import NameTaken
from ..jobs.clip_paths import clip_path
from ..jobs.lifecycle import JobStatus
from ..logs import get_logger
from ..timing import raise_if_cancelled
from .concurrency import DownloadConcurrency
from .context import DownloadContext
from .download import ClipDownload, DownloadCancelled, OwnFiles
from .failures import download_failed
from .links import host_of, restore_links
from .output_dirs import record_output_dir
from .slots import DownloadSlots, max_downloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..settings import Limits, Retry
    from .clip_store import ClipStore
    from .links import UrlSource
    from .reports import DownloadReports
    from .slots import DownloadSlot


_log = get_logger(__name__)


class Downloader:
    """The `Delivery` port: transfers the clips into the client's own clip store."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        clips: ClipStore,
        *,
        limits: Limits,
        retry: Retry,
        jitter: Callable[[], float] = random.random,
        urls: UrlSource | None = None,
        reports: DownloadReports | None = None,
    ) -> None:
        self._registry = registry
        self._clock = registry.clock
        self._clips = clips
        self._retry = retry
        self._context = DownloadContext(
            transport, registry, clips, retry=retry, jitter=jitter, urls=urls, reports=reports
        )
        self._concurrency = DownloadConcurrency(max_downloads(limits.max_downloads))
        self._slots: DownloadSlots[JobState] = DownloadSlots(self._concurrency, registry.clock)
        self._earlier_folders: list[Path] = []  # where the clips of the ledger were before, the latest first
        self._is_new_folder = False  # whether the last run of the ledger had another folder
        self._downloaded = 0  # clips, and the seconds that they took together
        self._seconds = 0.0

    async def open(self) -> None:
        """Record where the clips are, and read where they were before. Raise `LedgerError`."""
        found = await record_output_dir(self._registry.store, self._clips.root)
        self._is_new_folder, self._earlier_folders = found

    async def prepare(self) -> None:
        """Check that clips can be stored. Raise `OSError`."""
        await self._clips.prepare()

    @property
    def mean_seconds(self) -> float | None:
        """The mean duration of a transfer so far; None before the first is complete."""
        return self._seconds / self._downloaded if self._downloaded else None

    @property
    def concurrency(self) -> int:
        """How many jobs are downloaded concurrently at present, if that many are waiting."""
        return self._concurrency.limit

    @property
    def learned_concurrency(self) -> int | None:
        """The same; None while nothing was measured."""
        return self._concurrency.limit if self._concurrency.is_learned else None

    def add(self, job: JobState) -> None:
        """Transfer the clips of a job. Those of a completed job are transferred only if they are gone or incomplete."""
        videos = job.task.videos if job.task is not None else job.record.videos
        self._slots.add(host_of(videos[0].url) if videos else "", job)

    async def run(self) -> None:
        """Transfer the clips of the jobs that `add` receives, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                group.start_soon(self._serve, *await self._slots.next())

    async def _serve(self, job: JobState, slot: DownloadSlot) -> None:
        job.add_done_callback(lambda _: slot.job_done())
        # A task that is not known here was finished in an earlier run, which may have begun to store its clips.
        own = OwnFiles(is_resumed=job.task is None and not self._is_new_folder)
        if job.status is JobStatus.COMPLETED and not self._earlier_folders:  # else they may never have been here
            own = OwnFiles(own.is_resumed, frozenset(job.record.paths))
        try:
            if job.status is JobStatus.COMPLETED and not await self._resolve_complete(job):
                await self._registry.persist(self._registry.transition(job, JobStatus.DOWNLOADING, paths=()))
            if job.status is JobStatus.DOWNLOADING and not job.done():
                await self._download_all(job, slot, own)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it ends this job and no other
            raise_if_cancelled(error)
            self._registry.fail_unexpectedly(job, error, "downloaded")
        finally:
            self._context.reports.ended(job.key)
            slot.release()

    async def _resolve_complete(self, job: JobState) -> bool:
        """Resolve a completed job if its clips are still there and complete. Return whether it is resolved."""
        names: list[str] = []
        for index, recorded in enumerate(job.record.paths):
            try:
                name = await self._find(job, index, recorded)
            except (OSError, LedgerError) as error:  # the job stays completed: its clip is not lost
                self._registry.resolve(job, download_failed(job, clip_path(self._clips.root, recorded), str(error)))
                return True
            if not name:
                return False
            names.append(name)
        if not names:
            return False
        if tuple(names) != job.record.paths:
            await self._registry.persist(self._registry.update(job, paths=tuple(names)))
        self._registry.resolve(job, clip_path(self._clips.root, names[0]))
        return True

    async def _find(self, job: JobState, index: int, recorded: str) -> str:
        """Return the name of a complete clip, which may have to be taken from an earlier folder; "" if there is none.

        Raise `OSError` if it cannot be taken from there.
        """
        if Path(recorded).name != recorded:  # not from this program: it would lead out of the folder
            return ""
        if await self._clips.has(recorded):
            return recorded
        name = recorded
        for folder in self._earlier_folders:
            while True:
                try:
                    if await self._clips.take(name, clip_path(folder, recorded)):
                        _log.info("job %r: its clip was taken from %s", job.key, folder)
                        return name
                    break
                except NameTaken as error:
                    name = await self._context.claim_other_name(job, index, name, str(error.filename))
        return ""

    async def _download_all(self, job: JobState, slot: DownloadSlot, own: OwnFiles) -> None:
        error: DownloadError | None = None
        names: list[str] = []
        try:
            first = await self._claim_name(job, 0)
            for index in range(await self._count_videos(job, slot, first)):
                name = await self._claim_name(job, index) if index else first
                since = self._clock.now()
                names.append(await ClipDownload(self._context, job, index, name, slot, own=own).run())
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
            change = self._registry.transition(job, JobStatus.DOWNLOAD_FAILED, error=str(error), videos=())
            await self._registry.persist(change)
            self._registry.resolve(job, error)
        else:
            facts = {
                "paths": tuple(names),
                "finished_at": self._clock.wall(),
                "error": "",
                "partial_download": None,
                "videos": (),
            }
            await self._registry.persist(self._registry.transition(job, JobStatus.COMPLETED, **facts))
            self._registry.resolve(job, clip_path(self._clips.root, names[0]))

    async def _count_videos(self, job: JobState, slot: DownloadSlot, name: str) -> int:
        """Return how many videos the task has. Check the task if that is neither known nor recorded."""
        attempts, since = 0, self._clock.now()
        if job.task is None:
            restore_links(job, self._registry)
        while job.task is None or not job.task.videos:
            failure = await self._context.urls.refresh(job)
            if failure is None:
                self._context.reports.checked(job.key, self._clock.now())
                continue
            if failure.is_final_after(attempts) or self._clock.now() - since > self._retry.timeout:
                raise download_failed(job, clip_path(self._clips.root, name), failure.reason)
            self._context.reports.failed(job.key, "", failure, attempts, self._clock.now())
            since += await self._context.back_off(slot, failure, attempts)
            if job.done():
                raise DownloadCancelled
            attempts += 1
        return len(job.task.videos)

    async def _claim_name(self, job: JobState, index: int) -> str:
        return await self._registry.store.claim_filename(job.key, index)
