"""One clip from its link to its file: request after request, each going on where the one before broke off."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from ..api.parsing import Response, parse_retry_after
from ..errors import DownloadError, TransportError
from ..jobs.records import PartialDownload
from ..ratelimit.backoff import retry_delay
from .links import AttemptFailure, UrlRefresher
from .partfile import PartFile
from .ranges import LARGEST, PartState, TransferStep, classify_transfer, request_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..api.transport import StreamingResponse, Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..models.responses import Video
    from ..settings import Retry
    from .slots import DownloadSlot


_T = TypeVar("_T")

_MADE_SURE = 1.0  # seconds between two marks in a slow transfer, from which a later run may go on
_WRITE = 1024 * 1024  # bytes that are gathered for one write: a thread for every packet would cost more than the disk

_log = logging.getLogger(__name__)


class DownloadCancelled(Exception):
    """The job was cancelled while its clip was on its way."""


class DownloadContext:
    """What every fetch of one client needs."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        *,
        retry: Retry,
        max_threads: int,
        jitter: Callable[[], float],
    ) -> None:
        self.transport = transport
        self.registry = registry
        self.urls = UrlRefresher(transport, registry)
        self.retry = retry
        self.jitter = jitter
        self._threads = anyio.CapacityLimiter(max_threads)

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Do blocking work off the loop."""
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    async def back_off(self, place: DownloadSlot, trouble: AttemptFailure, attempts: int) -> float:
        """Rest before the next attempt. Gives the seconds that were spent on waiting for a place after that."""
        return await place.back_off(retry_delay(trouble.retry_after, attempts, self.retry, self.jitter()))


@dataclass(slots=True)
class _AttemptCounter:
    """What has been tried since the clip last grew. Looks and transfers are counted apart: they fail apart."""

    since: float
    reached: int = 0  # bytes
    looks: int = 0  # in a row that have given no link
    transfers: int = 0

    def count(self, trouble: AttemptFailure) -> int | None:
        """Give how many of its kind went before this trouble; None where the next attempt need not wait."""
        if trouble.is_of_look:
            self.looks += 1
            return self.looks - 1
        self.looks = 0
        self.transfers += 1
        return None if self.transfers == 1 and trouble.needs_url else self.transfers - 1


class ClipDownload:
    """Brings video number `index` of a finished job to `path`."""

    def __init__(self, context: DownloadContext, job: JobState, index: int, path: Path, slot: DownloadSlot) -> None:
        self._context = context
        self._slot = slot
        self._job = job
        self._index = index
        self._file = PartFile(path)
        self._part = PartState()
        self._written_at = self._marked_at = 0.0
        self._unwritten = bytearray()
        self._is_marked = False  # the ledger says that a later run may go on from this part file
        self._came = 0  # bytes, over all requests

    async def run(self) -> Path:
        """Give the path of the whole clip. Raises `DownloadError`, or `GivenUp` if the job is cancelled meanwhile."""
        file, in_thread = self._file, self._context.in_thread
        try:
            self._part = await self._what_is_here()
            await self._download_with_retries()
        except OSError as error:
            raise self._failure(f"{error.strerror or error} ({error.filename or file.path})") from error
        except DownloadCancelled:
            await in_thread(file.discard)
            raise
        finally:
            file.close()
        return file.path

    async def _what_is_here(self) -> PartState:
        """Open the part file with what an earlier run has made sure of, if it has."""
        mark = self._job.record.partial_download
        if mark is None or mark.index != self._index or not mark.offset:
            return PartState()
        held = await self._context.in_thread(self._file.open, mark.offset)
        self._is_marked = mark.offset > 0
        if held == 0:
            await self._unmark()
            return PartState()
        return PartState(held, mark.total, mark.validator, mark.etag, furthest=held)

    async def _download_with_retries(self) -> None:
        """Try until the clip is whole, or nothing more has come for a budget."""
        source, part, job = self._context, self._part, self._job
        tries = _AttemptCounter(_now())
        trouble = await self._first_trouble()
        while trouble is not None:
            if part.furthest > tries.reached:
                tries = _AttemptCounter(_now(), part.furthest)
            if trouble.is_final_after(tries.looks) or _now() - tries.since > source.retry.timeout:
                raise self._failure(trouble.reason)
            _log.info("job %r: %s, after %d bytes; going on", job.key, trouble.reason, part.offset)
            if (attempts := tries.count(trouble)) is not None and not job.done():
                tries.since += await source.back_off(self._slot, trouble, attempts)
            if job.done():
                raise DownloadCancelled
            trouble = await source.urls.refresh(job, self._index) if trouble.needs_url else None
            trouble = trouble or await self._attempt()

    async def _first_trouble(self) -> AttemptFailure | None:
        assert self._job.task is not None
        if len(self._job.task.videos) <= self._index:  # a look for another one's fresh link has shown fewer
            return AttemptFailure(f"the task no longer names video number {self._index + 1}", needs_url=True)
        # The clock here may be wrong, so a link is thought to be stale only once; then it is tried as it is.
        if self._context.urls.has_expired(self._job, self._index):
            return AttemptFailure("its link has expired", needs_url=True)
        return await self._attempt()

    async def _attempt(self) -> AttemptFailure | None:
        """Make one request, and tell what came of it; None if the clip is whole now, and has its name."""
        since, before, reason = _now(), self._came, "cut short"
        try:
            trouble = await self._request()
            reason = trouble.reason if trouble else ""
            return trouble
        finally:
            facts = {"bytes": self._came - before, "bytes_received": self._part.offset, "bytes_total": self._part.total}
            self._context.registry.events.downloaded(self._job, _now() - since, reason, **facts)

    async def _request(self) -> AttemptFailure | None:
        part = self._part
        self._unwritten = bytearray()
        try:
            async with self._context.transport.stream(self._video.url, request_headers(part)) as transfer:
                trouble = await self._receive(transfer)
        except TransportError as error:
            await self._write()
            return AttemptFailure(str(error), needs_url=not error.sent)
        if trouble is not None:
            return trouble
        last, self._unwritten = self._unwritten, bytearray()
        self._grew(len(last))
        if part.is_short:
            await self._context.in_thread(self._file.append, last)
            return AttemptFailure(f"the transfer ended at byte {part.offset} of {part.total}")
        fault = await self._context.in_thread(self._file.commit, last)
        if fault is None:
            return None
        await self._start_over()
        return AttemptFailure(f"what the link gives is not a whole MP4: {fault}", needs_url=True)

    async def _receive(self, transfer: StreamingResponse) -> AttemptFailure | None:
        part = self._part
        answer = classify_transfer(transfer.status, transfer.headers, part)
        match answer.step:
            case TransferStep.REFRESH_URL:
                return AttemptFailure(f"the link answers HTTP {transfer.status}", needs_url=True)
            case TransferStep.RETRY_LATER:
                advice = parse_retry_after(
                    Response(transfer.status, transfer.headers), self._context.registry.clock.wall()
                )
                return AttemptFailure(f"the link answers HTTP {transfer.status}", retry_after=advice)
            case TransferStep.RESTART:
                await self._start_over()
                return AttemptFailure(f"the rest does not fit what is here (HTTP {transfer.status})")
            case TransferStep.FULL if part.offset:
                await self._start_over()
        part.total, part.validator, part.etag = answer.total, answer.validator, answer.etag
        if part.total is not None and part.total > LARGEST:
            return _too_large(part.total)
        return await self._stream_to_file(transfer)

    async def _stream_to_file(self, transfer: StreamingResponse) -> AttemptFailure | None:
        """Write the body to the part file, but for the last of it."""
        self._written_at = self._marked_at = _now()
        async with aclosing(transfer.chunks()) as chunks:
            async for chunk in chunks:
                if self._job.done():
                    raise DownloadCancelled
                self._unwritten += chunk
                size = self._part.offset + len(self._unwritten)
                if size > LARGEST:
                    return _too_large(size)
                if len(self._unwritten) >= _WRITE or _now() - self._written_at >= _MADE_SURE:
                    await self._write()
                    await self._checkpoint()
        return None

    async def _write(self) -> None:
        data, self._unwritten = self._unwritten, bytearray()
        if data:
            await self._context.in_thread(self._file.append, data)
            self._grew(len(data))
            self._written_at = _now()

    def _grew(self, count: int) -> None:
        if not count:
            return
        part, registry = self._part, self._context.registry
        part.grew(count)
        self._came += count
        registry.totals.count("bytes_downloaded", count)
        registry.events.bytes_received(self._job, bytes=count, bytes_received=part.offset, bytes_total=part.total)

    async def _checkpoint(self) -> None:
        """Once in a while, let a later run go on from here; a clip that comes fast is soon here anyhow."""
        part, registry = self._part, self._context.registry
        if _now() - self._marked_at < _MADE_SURE or not part.is_short:
            return
        await self._context.in_thread(self._file.sync)
        self._marked_at = _now()
        self._is_marked = True
        mark = PartialDownload(
            index=self._index, offset=part.offset, total=part.total, validator=part.validator, etag=part.etag
        )
        await registry.persist(registry.update(self._job, partial_download=mark))

    async def _start_over(self) -> None:
        await self._unmark()
        self._part.forget()
        await self._context.in_thread(self._file.truncate)

    async def _unmark(self) -> None:
        """Let no later run go on from here: it would take bytes of another version for those that it knows."""
        if self._is_marked:
            self._is_marked = False
            await self._context.registry.persist(self._context.registry.update(self._job, partial_download=None))

    @property
    def _video(self) -> Video:
        assert self._job.task is not None
        return self._job.task.videos[self._index]

    def _failure(self, reason: str) -> DownloadError:
        videos = self._job.task.videos if self._job.task else ()
        url = videos[self._index].url if self._index < len(videos) else ""
        return download_failed(self._job, self._file.path, reason, url)


def download_failed(job: JobState, path: Path, reason: str, url: str = "") -> DownloadError:
    """Give the error for a clip that is paid and could not be stored."""
    return DownloadError(
        f"job {job.key!r} (task {job.task_id}) is finished and paid, but {path} could not be stored: {reason}. "
        "Mend the cause and fetch it again by its task_id, without paying",
        path=str(path),
        url=url,
    )


def _too_large(size: int) -> AttemptFailure:
    return AttemptFailure(f"it has {size} bytes or more, above the ceiling of {LARGEST}", is_final=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
