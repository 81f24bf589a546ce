"""One clip from its link to its file: request after request, each going on where the one before broke off."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from ..api.parsing import Reply, retry_after
from ..errors import DownloadError, TransportError
from ..jobs.records import PartMark
from ..ratelimit.backoff import obey
from .links import Links, Trouble
from .partfile import PartFile
from .ranges import LARGEST, Part, Step, judge_transfer, request_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..api.transport import Transfer, Transport
    from ..jobs.job import Job
    from ..jobs.registry import Roster
    from ..models.responses import Video
    from ..settings import Retry
    from .slots import Place


_T = TypeVar("_T")

_MADE_SURE = 1.0  # seconds between two marks in a slow transfer, from which a later run may go on
_WRITE = 1024 * 1024  # bytes that are gathered for one write: a thread for every packet would cost more than the disk

_log = logging.getLogger("omni_async.downloader")


class GivenUp(Exception):
    """The job was cancelled while its clip was on its way."""


class Source:
    """What every fetch of one client needs."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        *,
        retry: Retry,
        at_once: int,
        dice: Callable[[], float],
    ) -> None:
        self.transport = transport
        self.roster = roster
        self.links = Links(transport, roster)
        self.retry = retry
        self.dice = dice
        self._threads = anyio.CapacityLimiter(at_once)

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Do blocking work off the loop."""
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    async def rest(self, place: Place, trouble: Trouble, attempts: int) -> float:
        """Rest before the next attempt. Gives the seconds that were spent on waiting for a place after that."""
        return await place.rest(obey(trouble.advice, attempts, self.retry, self.dice()))


@dataclass(slots=True)
class _Tries:
    """What has been tried since the clip last grew. Looks and transfers are counted apart: they fail apart."""

    since: float
    reached: int = 0  # bytes
    looks: int = 0  # in a row that have given no link
    transfers: int = 0

    def count(self, trouble: Trouble) -> int | None:
        """Give how many of its kind went before this trouble; None where the next attempt need not wait."""
        if trouble.is_of_look:
            self.looks += 1
            return self.looks - 1
        self.looks = 0
        self.transfers += 1
        return None if self.transfers == 1 and trouble.needs_link else self.transfers - 1


class Fetch:
    """Brings video number `index` of a finished job to `path`."""

    def __init__(self, source: Source, job: Job, index: int, path: Path, place: Place) -> None:
        self._source = source
        self._place = place
        self._job = job
        self._index = index
        self._file = PartFile(path)
        self._part = Part()
        self._written_at = self._marked_at = 0.0
        self._unwritten = bytearray()
        self._is_marked = False  # the ledger says that a later run may go on from this part file
        self._came = 0  # bytes, over all requests

    async def run(self) -> Path:
        """Give the path of the whole clip. Raises `DownloadError`, or `GivenUp` if the job is cancelled meanwhile."""
        file, in_thread = self._file, self._source.in_thread
        try:
            self._part = await self._what_is_here()
            await self._persist()
        except OSError as error:
            raise self._failure(f"{error.strerror or error} ({error.filename or file.path})") from error
        except GivenUp:
            await in_thread(file.discard)
            raise
        finally:
            file.close()
        return file.path

    async def _what_is_here(self) -> Part:
        """Open the part file with what an earlier run has made sure of, if it has."""
        mark = self._job._record.part
        if mark is None or mark.index != self._index or not mark.offset:
            return Part()
        held = await self._source.in_thread(self._file.open, mark.offset)
        self._is_marked = mark.offset > 0
        if held == 0:
            await self._unmark()
            return Part()
        return Part(held, mark.total, mark.validator, mark.etag, furthest=held)

    async def _persist(self) -> None:
        """Try until the clip is whole, or nothing more has come for a budget."""
        source, part, job = self._source, self._part, self._job
        tries = _Tries(_now())
        trouble = await self._first_trouble()
        while trouble is not None:
            if part.furthest > tries.reached:
                tries = _Tries(_now(), part.furthest)
            if trouble.is_hopeless(tries.looks) or _now() - tries.since > source.retry.budget:
                raise self._failure(trouble.reason)
            _log.info("job %r: %s, after %d bytes; going on", job.key, trouble.reason, part.offset)
            if (attempts := tries.count(trouble)) is not None and not job.done():
                tries.since += await source.rest(self._place, trouble, attempts)
            if job.done():
                raise GivenUp
            trouble = await source.links.renew(job, self._index) if trouble.needs_link else None
            trouble = trouble or await self._attempt()

    async def _first_trouble(self) -> Trouble | None:
        assert self._job.task is not None
        if len(self._job.task.videos) <= self._index:  # a look for another one's fresh link has shown fewer
            return Trouble(f"the task no longer names video number {self._index + 1}", needs_link=True)
        # The clock here may be wrong, so a link is thought to be stale only once; then it is tried as it is.
        if self._source.links.has_expired(self._job, self._index):
            return Trouble("its link has expired", needs_link=True)
        return await self._attempt()

    async def _attempt(self) -> Trouble | None:
        """Make one request, and tell what came of it; None if the clip is whole now, and has its name."""
        since, before, reason = _now(), self._came, "cut short"
        try:
            trouble = await self._request()
            reason = trouble.reason if trouble else ""
            return trouble
        finally:
            facts = {"bytes": self._came - before, "received": self._part.offset, "size": self._part.total}
            self._source.roster.events.transferred(self._job, _now() - since, reason, **facts)

    async def _request(self) -> Trouble | None:
        part = self._part
        self._unwritten = bytearray()
        try:
            async with self._source.transport.fetch(self._video.url, request_headers(part)) as transfer:
                trouble = await self._receive(transfer)
        except TransportError as error:
            await self._write()
            return Trouble(str(error), needs_link=not error.sent)
        if trouble is not None:
            return trouble
        last, self._unwritten = self._unwritten, bytearray()
        self._grew(len(last))
        if part.is_short:
            await self._source.in_thread(self._file.append, last)
            return Trouble(f"the transfer ended at byte {part.offset} of {part.total}")
        fault = await self._source.in_thread(self._file.finish, last)
        if fault is None:
            return None
        await self._start_over()
        return Trouble(f"what the link gives is not a whole MP4: {fault}", needs_link=True)

    async def _receive(self, transfer: Transfer) -> Trouble | None:
        part = self._part
        answer = judge_transfer(transfer.status, transfer.headers, part)
        match answer.step:
            case Step.FRESH_LINK:
                return Trouble(f"the link answers HTTP {transfer.status}", needs_link=True)
            case Step.LATER:
                advice = retry_after(Reply(transfer.status, transfer.headers), self._source.roster.wall())
                return Trouble(f"the link answers HTTP {transfer.status}", advice=advice)
            case Step.START_OVER:
                await self._start_over()
                return Trouble(f"the rest does not fit what is here (HTTP {transfer.status})")
            case Step.WHOLE if part.offset:
                await self._start_over()
        part.total, part.validator, part.etag = answer.total, answer.validator, answer.etag
        if part.total is not None and part.total > LARGEST:
            return _too_large(part.total)
        return await self._pour(transfer)

    async def _pour(self, transfer: Transfer) -> Trouble | None:
        """Write the body to the part file, but for the last of it."""
        self._written_at = self._marked_at = _now()
        async with aclosing(transfer.chunks()) as chunks:
            async for chunk in chunks:
                if self._job.done():
                    raise GivenUp
                self._unwritten += chunk
                size = self._part.offset + len(self._unwritten)
                if size > LARGEST:
                    return _too_large(size)
                if len(self._unwritten) >= _WRITE or _now() - self._written_at >= _MADE_SURE:
                    await self._write()
                    await self._mark()
        return None

    async def _write(self) -> None:
        data, self._unwritten = self._unwritten, bytearray()
        if data:
            await self._source.in_thread(self._file.append, data)
            self._grew(len(data))
            self._written_at = _now()

    def _grew(self, count: int) -> None:
        if not count:
            return
        part, roster = self._part, self._source.roster
        part.grew(count)
        self._came += count
        roster.count("bytes", count)
        roster.events.received(self._job, bytes=count, received=part.offset, size=part.total)

    async def _mark(self) -> None:
        """Once in a while, let a later run go on from here; a clip that comes fast is soon here anyhow."""
        part, roster = self._part, self._source.roster
        if _now() - self._marked_at < _MADE_SURE or not part.is_short:
            return
        await self._source.in_thread(self._file.make_sure)
        self._marked_at = _now()
        self._is_marked = True
        mark = PartMark(
            index=self._index, offset=part.offset, total=part.total, validator=part.validator, etag=part.etag
        )
        await roster.sure(roster.note(self._job, part=mark))

    async def _start_over(self) -> None:
        await self._unmark()
        self._part.forget()
        await self._source.in_thread(self._file.empty)

    async def _unmark(self) -> None:
        """Let no later run go on from here: it would take bytes of another version for those that it knows."""
        if self._is_marked:
            self._is_marked = False
            await self._source.roster.sure(self._source.roster.note(self._job, part=None))

    @property
    def _video(self) -> Video:
        assert self._job.task is not None
        return self._job.task.videos[self._index]

    def _failure(self, reason: str) -> DownloadError:
        videos = self._job.task.videos if self._job.task else ()
        url = videos[self._index].url if self._index < len(videos) else ""
        return undelivered(self._job, self._file.path, reason, url)


def undelivered(job: Job, path: Path, reason: str, url: str = "") -> DownloadError:
    """Give the error for a clip that is paid and could not be stored."""
    return DownloadError(
        f"job {job.key!r} (task {job.task_id}) is finished and paid, but {path} could not be stored: {reason}. "
        "Mend the cause and fetch it again by its task_id, without paying",
        path=str(path),
        url=url,
    )


def _too_large(size: int) -> Trouble:
    return Trouble(f"it has {size} bytes or more, above the ceiling of {LARGEST}", is_final=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
