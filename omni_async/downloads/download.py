"""The transfer of one clip: request after request, each continuing where the previous one broke off.

Used by `Downloader`, which makes one `ClipDownload` for each video of a finished task.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..api.error_parsing import parse_retry_after
from ..api.parsing import Response
from ..errors import DownloadError, TransportError
from ..files import NameTaken
from ..jobs.clip_paths import clip_path
from ..jobs.records import PartialDownload
from ..logs import get_logger
from .evidence import BodyDigest
from .failures import (
    AttemptCounter,
    AttemptFailure,
    download_failed,
    misfit_failure,
    size_failure,
    status_failure,
    transport_failure,
)
from .ranges import MAX_CLIP_BYTES, PartState, TransferStep, classify_transfer, encoding_of, request_headers
from .unpacking import Unpacker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from pathlib import Path

    from ..api.transport import StreamingResponse
    from ..jobs.job import JobState
    from ..models.responses import Video
    from .clip_store import PartialClip
    from .context import DownloadContext
    from .slots import DownloadSlot


# Seconds between two checkpoints of a transfer, from which a later run may continue. A checkpoint costs an fsync and a
# commit. At half, slow transfers cost twice as many of both; at double, a crash loses up to two seconds of every
# transfer. Clips that arrive faster never need one. Chosen, not measured.
_CHECKPOINT_INTERVAL = 1.0

# Bytes gathered for one write, which is handed to a thread: for every packet that would cost more than the disk does.
# At half, twice as many switches; at double, twice the memory of each transfer. Chosen, not measured.
_WRITE_SIZE = 1024 * 1024

_T = TypeVar("_T")

_log = get_logger(__name__)


class DownloadCancelled(Exception):
    """The job was cancelled while its clip was being transferred."""


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """Which files that are there already belong to a job: part files, and complete clips by name."""

    is_resumed: bool
    replaceable: frozenset[str] = frozenset()


class ClipDownload:
    """Transfers video number `index` of a finished job into the clip store, as `name`."""

    def __init__(
        self, context: DownloadContext, job: JobState, index: int, name: str, slot: DownloadSlot, *, own: OwnFiles
    ) -> None:
        self._context = context
        self._slot = slot
        self._job = job
        self._index = index
        self._path = clip_path(context.clips.root, name)
        self._own = own
        self._clip: PartialClip  # from `run` on
        self._part = PartState()
        self._written_at = self._checkpoint_at = 0.0
        self._unwritten = bytearray()
        self._has_checkpoint = False  # the ledger says that a later run may continue this clip
        self._received = 0  # bytes, over all requests
        self._digest = BodyDigest()
        self._has_length, self._encoding = False, ""  # of the last response: does it announce how many bytes it has?
        self._unpacker = Unpacker("")  # of the last response
        self._last_evidence: Hashable | None = None  # of the last attempt
        self._kept: Path | None = None  # a video of another kind

    async def run(self) -> str:
        """Transfer the clip until it is complete. Return its file name, which differs if the claimed one was taken.

        Raise `DownloadError` if that fails, and `DownloadCancelled` if the job is cancelled meanwhile.
        """
        self._clip = await self._begin()
        try:
            self._part = await self._open_partial()
            self._digest.skip(self._part.offset)
            await self._download_with_retries()
        except OSError as error:
            raise self._failed(f"{error.strerror or error} ({error.filename or self._path})") from error
        except DownloadCancelled:
            await self._clip.discard()
            raise
        finally:
            self._clip.close()
        return self._path.name

    async def _begin(self) -> PartialClip:
        """Return the clip to be transferred, under a name that the store does not know to be taken."""
        own = self._own
        while True:
            name = self._path.name
            try:
                return self._context.clips.partial(name, is_resumed=own.is_resumed, replace=name in own.replaceable)
            except NameTaken as error:
                await self._claim_other_name(error)

    async def _open_partial(self) -> PartState:
        """Continue what an earlier run has recorded, if it is still there."""
        checkpoint = self._job.record.partial_download
        if checkpoint is None or checkpoint.index != self._index or not checkpoint.offset:
            return PartState()
        kept = await self._store(lambda: self._clip.open(checkpoint.offset))
        self._has_checkpoint = checkpoint.offset > 0
        if kept == 0:
            await self._clear_checkpoint()
            return PartState()
        return PartState(kept, checkpoint.total, checkpoint.validator, checkpoint.etag, furthest=kept)

    async def _download_with_retries(self) -> None:
        """Repeat attempts until the clip is complete. Give up when no new byte has arrived for the retry timeout."""
        context, part, job = self._context, self._part, self._job
        now = context.clock.now
        attempts = AttemptCounter(now())
        failure = await self._first_attempt()
        while failure is not None:
            if part.furthest > attempts.reached:
                attempts = AttemptCounter(now(), part.furthest)
            has_come_again = failure.evidence is not None and failure.evidence == self._last_evidence
            is_final = has_come_again or failure.is_final_after(attempts.checks)
            if is_final or now() - attempts.since > context.retry.timeout:
                if is_final:  # otherwise a later run may continue the part file
                    await self._clear_checkpoint()
                    await self._clip.discard()
                again = ", and again from a fresh URL" if has_come_again else ""
                raise self._failed(f"{failure.reason}{again}")
            if not failure.is_check:
                self._last_evidence = failure.evidence
            _log.info("job %r: %s, after %d bytes; retrying", job.key, failure.reason, part.offset)
            if (earlier := attempts.count(failure)) is not None and not job.done():
                context.reports.failed(job.key, self._url, failure, earlier, now())
                attempts.since += await context.back_off(self._slot, failure, earlier)
            if job.done():
                raise DownloadCancelled
            failure = await self._refresh(failure) if failure.needs_url else None
            failure = failure or await self._attempt()

    async def _refresh(self, reason: AttemptFailure) -> AttemptFailure | None:
        failure = await self._context.urls.refresh(self._job, self._index, reason)
        if failure is None:
            self._context.reports.checked(self._job.key, self._context.clock.now())
        return failure

    async def _first_attempt(self) -> AttemptFailure | None:
        assert self._job.task is not None
        if len(self._job.task.videos) <= self._index:  # a check for the URL of another video showed fewer
            return AttemptFailure(f"the task no longer names video number {self._index + 1}", needs_url=True)
        # The clock of this machine may be wrong. So an expired URL is refreshed once, and then tried as it is.
        if self._context.urls.has_expired(self._job, self._index):
            return AttemptFailure("its download URL has expired", needs_url=True)
        return await self._attempt()

    async def _attempt(self) -> AttemptFailure | None:
        """Make one request, and emit an event about it. Return None if the clip is complete now."""
        since, before, reason = self._context.clock.now(), self._received, "cut short"
        try:
            failure = await self._request()
            reason = failure.reason if failure else ""
            self._slot.record_attempt(failure, self._received - before)
            return failure
        finally:
            seconds, part = self._context.clock.now() - since, self._part
            facts = {"bytes": self._received - before, "bytes_received": part.offset, "bytes_total": part.total}
            self._context.registry.events.downloaded(self._job, seconds, reason, **facts)

    async def _request(self) -> AttemptFailure | None:
        part = self._part
        self._unwritten = bytearray()
        try:
            async with self._context.transport.stream(self._video.url, request_headers(part)) as response:
                failure = await self._receive(response)
        except TransportError as error:
            await self._write()
            return transport_failure(error)
        if failure is not None:
            return failure
        if not self._unpacker.is_whole:
            return await self._reject(f"it came compressed ({self._encoding or 'gzip'}), and is damaged or cut short")
        last, self._unwritten = self._unwritten, bytearray()
        self._count_received(len(last))
        if part.is_short:
            await self._store(lambda: self._clip.append(last))
            return AttemptFailure(f"the transfer ended at byte {part.offset} of {part.total}", kind="broken off")
        defect = await self._store(lambda: self._clip.commit(last))
        if defect is None:
            return None
        return await self._reject(defect)

    async def _reject(self, defect: str) -> AttemptFailure:
        """Start over after a body that is not an MP4. Keep it if it is a video all the same: it was paid for."""
        kept = await self._store(self._clip.keep_unverified)
        evidence = self._digest.evidence(is_whole=kept is not None or self._has_length)
        if kept is not None:
            self._kept = self._path.with_name(kept)
            is_mp4 = self._kept.suffix == ".m4v"
            defect = defect if is_mp4 else f"it is another kind of video, {self._kept.suffix.removeprefix('.')}"
        elif self._encoding and not self._unpacker.is_packed:
            defect = f"it came compressed ({self._encoding}), although no compression was accepted"
        await self._restart()
        reason = f"the download URL gives no complete MP4: {defect}"
        return AttemptFailure(reason, needs_url=True, kind="no MP4", evidence=evidence)

    async def _receive(self, response: StreamingResponse) -> AttemptFailure | None:
        part = self._part
        decision = classify_transfer(response.status, response.headers, part)
        match decision.step:
            case TransferStep.REFUSED:
                head = Response(response.status, response.headers)
                return status_failure(response.status, parse_retry_after(head, self._context.clock.wall()))
            case TransferStep.RESTART:
                await self._restart()
                return misfit_failure(response.status)
            case TransferStep.FULL if part.offset:
                await self._restart()
        self._has_length = "content-length" in response.headers
        self._encoding = encoding_of(response.headers)
        self._unpacker = Unpacker(self._encoding)
        part.expect(decision)
        if part.total is not None and part.total > MAX_CLIP_BYTES:
            return size_failure(part.total)
        return await self._stream_to_store(response)

    async def _stream_to_store(self, response: StreamingResponse) -> AttemptFailure | None:
        """Write the body into the store, except for the last bytes, which `commit` writes."""
        self._written_at = self._checkpoint_at = self._context.clock.now()
        async with aclosing(response.chunks()) as chunks:
            async for chunk in chunks:
                self._digest.add(chunk)
                for piece in self._unpacker.pieces(chunk):
                    if (failure := await self._take(piece, response.status)) is not None:
                        return failure
        return None

    async def _take(self, piece: bytes, status: int) -> AttemptFailure | None:
        """Add a piece to the clip. Return why it cannot be, if so."""
        part = self._part
        if self._job.done():
            raise DownloadCancelled
        if self._unpacker.is_packed:
            part.forget_size()
        self._unwritten += piece
        size = part.offset + len(self._unwritten)
        if size > MAX_CLIP_BYTES:
            return size_failure(size)
        if part.end is not None and size > part.end:
            await self._restart()
            return misfit_failure(status)
        now = self._context.clock.now()
        if len(self._unwritten) >= _WRITE_SIZE or now - self._written_at >= _CHECKPOINT_INTERVAL:
            await self._write()
            await self._checkpoint()
        return None

    async def _write(self) -> None:
        data, self._unwritten = self._unwritten, bytearray()
        if data:
            await self._store(lambda: self._clip.append(data))
            self._count_received(len(data))
            self._written_at = self._context.clock.now()

    def _count_received(self, count: int) -> None:
        if not count:
            return
        part, registry = self._part, self._context.registry
        if part.grew(count):
            self._context.reports.progressed(self._job.key, self._context.clock.now())
        self._received += count
        self._slot.received(count)
        registry.totals.count("bytes_downloaded", count)
        registry.events.bytes_received(self._job, bytes=count, bytes_received=part.offset, bytes_total=part.total)

    async def _checkpoint(self) -> None:
        """Record from time to time how far the clip has come, so that a later run can continue it.

        Without an announced size a later run could not tell whether it continues the same clip.
        """
        part, context = self._part, self._context
        if context.clock.now() - self._checkpoint_at < _CHECKPOINT_INTERVAL or not part.is_short:
            return
        await self._clip.sync()
        self._checkpoint_at = context.clock.now()
        self._has_checkpoint = True
        checkpoint = PartialDownload(
            index=self._index, offset=part.offset, total=part.total, validator=part.validator, etag=part.etag
        )
        await context.registry.persist(context.registry.update(self._job, partial_download=checkpoint))

    async def _restart(self) -> None:
        await self._clear_checkpoint()
        self._part.reset()
        self._digest = BodyDigest()
        await self._store(self._clip.truncate)

    async def _store(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do something with the partial clip. If its name is taken, the clip gets another one for good."""
        while True:
            try:
                return await work()
            except (NameTaken, BlockingIOError) as error:  # the latter: another client is writing its part file
                await self._claim_other_name(error)
                self._clip.rename(self._path.name)

    async def _claim_other_name(self, error: OSError) -> None:
        found = str(error.filename)
        name = await self._context.claim_other_name(self._job, self._index, self._path.name, found)
        self._path = self._path.with_name(name)

    async def _clear_checkpoint(self) -> None:
        """Record that no later run may continue this clip: it would append to the bytes of another version."""
        if self._has_checkpoint:
            self._has_checkpoint = False
            registry = self._context.registry
            await registry.persist(registry.update(self._job, partial_download=None))

    @property
    def _video(self) -> Video:
        assert self._job.task is not None
        return self._job.task.videos[self._index]

    @property
    def _url(self) -> str:
        """Its URL for a message; "" if the task no longer names one."""
        videos = self._job.task.videos if self._job.task else ()
        return videos[self._index].url if self._index < len(videos) else ""

    def _failed(self, reason: str) -> DownloadError:
        if self._kept is not None:
            reason = f"{reason}. What was received is kept as {self._kept}"
        return download_failed(self._job, self._path, reason, self._url)
