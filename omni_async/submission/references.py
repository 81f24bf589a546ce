"""Local references made ready: a job that refers to files is held back until what it names is where the server sees it.

Theory of operation. The submitter asks about the first in its line; a job with local files that are not ready is taken
out of it, so that nobody waits behind it, and rejoins it at its old place once its pictures have links and its video
has been looked at. So many jobs are made ready ahead of the gate, and no more: nothing is uploaded for one that is far
from being sent. What a job in doubt has sent before (`sent_references`) is sent again as it was, or not at all.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..api.outcomes import SubmitOutcome, SubmitResult
from ..api.parsing import encode_json
from ..errors import InvalidReference, LedgerError, OmniError, with_prefix
from ..jobs.lifecycle import JobStatus
from ..models.reference_files import Upload, video_length_warning
from ..timing import WakeEvent
from .local_files import body_with_video, read_video
from .queue import SubmitQueue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..models.request import VideoRequest
    from .uploads import ImageUploader


AHEAD = 16  # jobs that are being made ready, or are ready and not sent yet
VIDEOS = 2  # of them that have a local video: it is in memory, several times over, while it is sent
_MARK = "sha256:"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a job's local files have become, and until when (unix seconds) that can be sent."""

    links: tuple[str, ...]
    good_until: float
    video_digest: str = ""

    @property
    def sent_references(self) -> tuple[str, ...]:
        return (*self.links, f"{_MARK}{self.video_digest}") if self.video_digest else self.links


@dataclass(frozen=True, slots=True)
class PreparedBody:
    """The body to send, and what stands in it for each local file."""

    body: bytes
    sent_references: tuple[str, ...]


class ReferencePreparer:
    """Makes jobs ready that refer to local files."""

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
        self._at_work: dict[JobState, anyio.CancelScope] = {}
        self._ready: dict[JobState, _Prepared] = {}
        self._videos = anyio.Semaphore(VIDEOS)
        self._advised: set[Path] = set()
        self._wake = WakeEvent()

    def must_wait(self, job: JobState) -> bool:
        """Tell whether a job has to wait for its local files; if so it rejoins the line by itself."""
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
            job.add_done_callback(self._leave)
        self._waiting.put(job)
        self._wake.set()
        return True

    def is_ready(self, job: JobState) -> bool:
        """Tell whether this job has local files, and they are ready."""
        return job in self._ready

    async def build_body(self, job: JobState, more: dict[str, str]) -> PreparedBody | None:
        """Give what to send for a job that is ready, with `more` fields; None where a file has changed meanwhile."""
        ready, request = self._ready[job], job.request
        assert request is not None
        if not ready.video_digest:
            return PreparedBody(encode_json(request.to_payload(ready.links) | more), ready.sent_references)
        body = await anyio.to_thread.run_sync(body_with_video, request, ready.links, ready.video_digest, more)
        if body is None:
            self._drop(job)
            return None
        return PreparedBody(body, ready.sent_references)

    def on_sent(self, job: JobState) -> None:
        """Take note that a job has left; if it comes back, it is made ready anew."""
        self._drop(job)

    async def run(self) -> None:
        """Make jobs ready in the order in which they came, some of them at once, for ever."""
        async with anyio.create_task_group() as group:
            while True:
                while len(self._at_work) + len(self._ready) < AHEAD and (job := self._next()) is not None:
                    self._at_work[job] = anyio.CancelScope()
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

    def _leave(self, job: JobState) -> None:
        """Let go of a job that has ended."""
        self._known.discard(job)
        self._waiting.discard(job)
        self._drop(job)
        if job in self._at_work:
            self._at_work[job].cancel()
        self._wake.set()

    # One job

    async def _prepare(self, job: JobState) -> None:
        try:
            with self._at_work[job]:
                await self._make_ready(job)
        except LedgerError as error:  # what cannot be recorded must not be bought
            self._on_stop(error)
        finally:
            del self._at_work[job]
            self._wake.set()

    async def _make_ready(self, job: JobState) -> None:
        request = job.request
        assert request is not None, "a job without a request is never in the line"
        is_in_doubt = job.status is JobStatus.SUBMITTING and bool(job.record.sent_references)
        try:
            found = await (self._reuse_sent(job, request) if is_in_doubt else self._prepare_files(request))
        except InvalidReference as fault:
            await self._refuse(job, fault, is_in_doubt=is_in_doubt)
            return
        if isinstance(found, SubmitResult):
            await self._fail(job, found)
        elif job.done():  # its end came while nobody could hear of it
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
        return _Prepared(tuple(links), good_until, await self._look_at(request.video_file))

    async def _reuse_sent(self, job: JobState, request: VideoRequest) -> _Prepared:
        """Give what a job in doubt was sent with. Raises `InvalidReference` if that is not there any more."""
        *links, last = job.record.sent_references
        if not last.startswith(_MARK):
            return _Prepared((*links, last), float("inf"))
        digest = await self._look_at(request.video_file)
        if f"{_MARK}{digest}" == last:
            return _Prepared(tuple(links), float("inf"), digest)
        self._videos.release()
        raise InvalidReference(f"{request.video_file} has changed since", path=str(request.video_file))

    async def _upload_all(self, paths: tuple[Path, ...]) -> list[Upload | SubmitResult]:
        """Bring all pictures of a request to the server. Raises `InvalidReference` and `LedgerError`."""
        found: dict[Path, Upload | SubmitResult | InvalidReference | LedgerError] = {}

        async def bring(path: Path) -> None:
            try:
                found[path] = await self._uploads.ensure_uploaded(path)
            except (InvalidReference, LedgerError) as error:
                found[path] = error

        async with anyio.create_task_group() as group:
            for path in dict.fromkeys(paths):
                group.start_soon(bring, path)
        links = []
        for path in paths:
            one = found[path]
            if isinstance(one, (InvalidReference, LedgerError)):
                raise one
            links.append(one)
        return links

    async def _look_at(self, video: Path | None) -> str:
        """Give the hash of a video, with a place for it that it keeps until it is sent; "" if there is none."""
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

    # What cannot be sent

    async def _refuse(self, job: JobState, fault: OmniError, *, is_in_doubt: bool) -> None:
        """End a job whose files cannot be sent: unpaid, but for one in doubt, of which nobody knows."""
        if is_in_doubt:
            await self._registry.mark_unknown(job, f"the same request cannot be sent again: {fault}")
            self._on_failed(job, fault)
            return
        error = with_prefix(f"job {job.key!r}", fault)
        await self._registry.transition(
            job, JobStatus.FAILED, error=str(error), finished_at=self._registry.clock.wall()
        )
        self._on_failed(job, error)

    async def _fail(self, job: JobState, judgement: SubmitResult) -> None:
        error = judgement.error
        assert error is not None
        match judgement.outcome:
            case SubmitOutcome.STOP_ALL | SubmitOutcome.NOT_SENT:
                self._on_stop(error)
            case SubmitOutcome.REJECTED:
                await self._refuse(job, error, is_in_doubt=False)
            case _:  # a later run may find the upload well again
                self._on_failed(job, with_prefix(f"job {job.key!r}", error))


def _may_refer(job: JobState) -> bool:
    """Tell at a glance whether a request may have local files: within its texts, each quote has a stroke before it."""
    text = job.record.request
    return '"images":' in text or '"video":' in text


def _refers(job: JobState) -> bool:
    request = None
    with suppress(ValueError):
        request = job.request
    return request is not None and bool(request.image_files or request.video_file)
