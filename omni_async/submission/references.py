"""`ReferencePreparer`: holds a job back until the server can see the local files that it refers to.

Theory of operation. The submitter asks about the first job in its queue. A job whose local files are not ready is taken
out, so that no other job waits behind it. It returns to its old position once its images have URLs and its video is
checked. Only `AHEAD` jobs are prepared or ready at a time, so nothing is uploaded for a job that is far from being
sent. What an ambiguous job has sent before (`sent_references`) is sent again unchanged, or not at all.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..api.outcomes import SubmitOutcome, SubmitResult
from ..api.parsing import encode_json
from ..errors import InvalidReference, LedgerError, OmniError, with_prefix
from ..jobs.lifecycle import JobStatus
from ..logs import get_logger
from ..models.reference_files import Upload, video_length_warning
from ..timing import WakeEvent, raise_if_cancelled
from .local_files import body_with_video, read_video
from .queue import SubmitQueue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..models.request import VideoRequest
    from .uploads import ImageUploader


# Jobs that are being prepared, or are ready and not sent yet: one for each POST that may be outstanding. Fewer would
# make the submitter wait for uploads; more would upload for jobs that may never be sent.
AHEAD = 16
# Of them, jobs with a local video: it is in memory up to three times (file, base64, body) while it is sent, 20 MiB
# each.
VIDEOS = 2
_VIDEO_PREFIX = "sha256:"  # in `sent_references`, a video is represented by its hash

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a job's local files have become: URLs, and the hash of a video. Usable until `good_until` (Unix seconds)."""

    links: tuple[str, ...]
    good_until: float
    video_digest: str = ""

    @property
    def sent_references(self) -> tuple[str, ...]:
        return (*self.links, f"{_VIDEO_PREFIX}{self.video_digest}") if self.video_digest else self.links


@dataclass(frozen=True, slots=True)
class PreparedBody:
    """The body to send, and what it contains for each local file."""

    body: bytes
    sent_references: tuple[str, ...]


class ReferencePreparer:
    """Prepares jobs that refer to local files.

    `on_ready(job)` is called when a job can be sent, `on_failed(job, error)` when its files cannot be sent, and
    `on_stop(error)` when no job can be.
    """

    def __init__(
        self,
        uploads: ImageUploader,
        registry: JobRegistry,
        *,
        on_ready: Callable[[JobState], None],
        on_failed: Callable[[JobState, OmniError], None],
        on_stop: Callable[[OmniError], None],
    ) -> None:
        self._uploads = uploads
        self._registry = registry
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._on_stop = on_stop
        self._waiting: SubmitQueue[JobState] = SubmitQueue()
        self._known: set[JobState] = set()
        self._preparing: dict[JobState, anyio.CancelScope] = {}
        self._ready: dict[JobState, _Prepared] = {}
        self._videos = anyio.Semaphore(VIDEOS)
        self._advised: set[Path] = set()
        self._wake = WakeEvent()

    def must_wait(self, job: JobState) -> bool:
        """Return whether a job must wait for its local files. If so, it is prepared and passed to `on_ready`."""
        if not _may_refer(job):
            return False
        ready = self._ready.get(job)
        if ready is not None and self._registry.clock.wall() < ready.good_until:
            return False
        if ready is None and not _refers(job):
            return False
        self._drop(job)
        if job not in self._known:
            self._known.add(job)
            job.add_done_callback(self._forget)
        self._waiting.put(job)
        self._wake.set()
        return True

    def is_ready(self, job: JobState) -> bool:
        """Return whether this job has local files and they are ready."""
        return job in self._ready

    async def build_body(self, job: JobState, added: dict[str, str]) -> PreparedBody | None:
        """Return the body of a job that is ready, with the `added` fields; None if a file has changed meanwhile."""
        ready, request = self._ready[job], job.request
        assert request is not None
        if not ready.video_digest:
            return PreparedBody(encode_json(request.to_payload(ready.links) | added), ready.sent_references)
        body = await anyio.to_thread.run_sync(body_with_video, request, ready.links, ready.video_digest, added)
        if body is None:
            self._drop(job)
            return None
        return PreparedBody(body, ready.sent_references)

    def on_sent(self, job: JobState) -> None:
        """Record that a job was sent. If it returns, it is prepared again."""
        self._drop(job)

    async def run(self) -> None:
        """Prepare jobs in the order in which they came, several concurrently, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                while len(self._preparing) + len(self._ready) < AHEAD and (job := self._next()) is not None:
                    self._preparing[job] = anyio.CancelScope()
                    group.start_soon(self._prepare, job)
                await self._wake.wait(None)

    def _next(self) -> JobState | None:
        while (job := self._waiting.peek(0.0)) is not None:
            self._waiting.pop()
            if not job.done():
                return job
        return None

    def _drop(self, job: JobState) -> None:
        ready = self._ready.pop(job, None)
        if ready is not None:
            if ready.video_digest:
                self._videos.release()
            self._wake.set()

    def _forget(self, job: JobState) -> None:
        """Forget a job that has an outcome."""
        self._known.discard(job)
        self._waiting.discard(job)
        self._drop(job)
        if job in self._preparing:
            self._preparing[job].cancel()
        self._wake.set()

    # One job

    async def _prepare(self, job: JobState) -> None:
        try:
            with self._preparing[job]:
                await self._prepare_job(job)
        except LedgerError as error:  # what cannot be recorded must not be submitted
            self._on_stop(error)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it ends this job and no other
            raise_if_cancelled(error)
            self._on_failed(job, self._registry.log_unexpected(job, error, "prepared"))
        finally:
            del self._preparing[job]
            self._wake.set()

    async def _prepare_job(self, job: JobState) -> None:
        request = job.request
        assert request is not None, "a job without a request is never queued"
        is_ambiguous = job.status is JobStatus.SUBMITTING and bool(job.record.sent_references)
        try:
            found = await (self._reuse_sent(job, request) if is_ambiguous else self._prepare_files(request))
        except InvalidReference as error:
            await self._refuse(job, error, is_ambiguous=is_ambiguous)
            return
        if isinstance(found, SubmitResult):
            await self._fail(job, found)
        elif job.done():  # resolved while its files were prepared
            self._ready[job] = found
            self._drop(job)
        else:
            self._ready[job] = found
            self._on_ready(job)

    async def _prepare_files(self, request: VideoRequest) -> _Prepared | SubmitResult:
        links, good_until = [], float("inf")
        for found in await self._upload_all(request.image_files):
            if isinstance(found, SubmitResult):
                return found
            links.append(found.url)
            good_until = min(good_until, found.usable_until)
        return _Prepared(tuple(links), good_until, await self._check_video(request.video_file))

    async def _reuse_sent(self, job: JobState, request: VideoRequest) -> _Prepared:
        """Return what an ambiguous job was sent with. Raise `InvalidReference` if a file has changed since."""
        *links, last = job.record.sent_references
        if not last.startswith(_VIDEO_PREFIX):
            return _Prepared((*links, last), float("inf"))
        digest = await self._check_video(request.video_file)
        if f"{_VIDEO_PREFIX}{digest}" == last:
            return _Prepared(tuple(links), float("inf"), digest)
        self._videos.release()
        raise InvalidReference(f"{request.video_file} has changed since", path=str(request.video_file))

    async def _upload_all(self, paths: tuple[Path, ...]) -> list[Upload | SubmitResult]:
        """Upload all images of a request. Raise `InvalidReference` or `LedgerError`."""
        found: dict[Path, Upload | SubmitResult | Exception] = {}

        async def upload(path: Path) -> None:
            try:
                found[path] = await self._uploads.ensure_uploaded(path)
            except Exception as error:  # noqa: BLE001 - raised below, not as a group
                found[path] = error

        async with anyio.create_task_group() as group:
            for path in dict.fromkeys(paths):
                group.start_soon(upload, path)
        links = []
        for path in paths:
            one = found[path]
            if isinstance(one, Exception):
                raise one
            links.append(one)
        return links

    async def _check_video(self, video: Path | None) -> str:
        """Return the hash of a video, and hold one of the `VIDEOS` slots until it is sent.

        Return "" without a video.
        """
        if video is None:
            return ""
        await self._videos.acquire()
        try:
            content = await self._uploads.content(video, read_video)
        except BaseException:
            self._videos.release()
            raise
        if (
            content.seconds is not None
            and (advice := video_length_warning(content.seconds))
            and video not in self._advised
        ):
            self._advised.add(video)
            _log.warning("the reference video %s %s", video, advice)
        return content.digest

    # Files that cannot be sent

    async def _refuse(self, job: JobState, error: OmniError, *, is_ambiguous: bool) -> None:
        """Fail a job whose files cannot be sent. It is unpaid, unless an earlier POST of it is ambiguous."""
        if is_ambiguous:
            await self._registry.mark_unknown(job, f"the same request cannot be sent again: {error}")
            self._on_failed(job, error)
            return
        error = with_prefix(f"job {job.key!r}", error)
        await self._registry.transition(
            job, JobStatus.FAILED, error=str(error), finished_at=self._registry.clock.wall()
        )
        self._on_failed(job, error)

    async def _fail(self, job: JobState, result: SubmitResult) -> None:
        error = result.error
        assert error is not None
        match result.outcome:
            case SubmitOutcome.STOP_ALL | SubmitOutcome.NOT_SENT:
                self._on_stop(error)
            case SubmitOutcome.REJECTED:
                await self._refuse(job, error, is_ambiguous=False)
            case _:  # an upload may succeed in a later run
                self._on_failed(job, with_prefix(f"job {job.key!r}", error))


def _may_refer(job: JobState) -> bool:
    """Return quickly whether a request may have local files. Quotes inside its strings are escaped, so none match."""
    text = job.record.request
    return '"images":' in text or '"video":' in text


def _refers(job: JobState) -> bool:
    request = None
    with suppress(Exception):  # if it cannot be read, sending the job fails with the reason
        request = job.request
    return request is not None and bool(request.image_files or request.video_file)
