"""`DownloadContext`: what every transfer of one client needs. `Downloader` makes it, and `ClipDownload` uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs.clip_paths import clip_path
from ..logs import get_logger
from ..ratelimit.backoff import retry_delay
from .links import UrlRefresher
from .reports import DownloadReports

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..settings import Retry
    from ..timing import Clock
    from .clip_store import ClipStore
    from .failures import AttemptFailure
    from .links import UrlSource
    from .slots import DownloadSlot


_log = get_logger(__name__)


class DownloadContext:
    """The connections, stores and settings that all transfers share, and what they do alike."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        clips: ClipStore,
        *,
        retry: Retry,
        jitter: Callable[[], float],
        urls: UrlSource | None,
        reports: DownloadReports | None,
    ) -> None:
        self.transport = transport
        self.registry = registry
        self.clock: Clock = registry.clock
        self.clips = clips
        self.urls: UrlSource = urls or UrlRefresher(transport, registry)
        self.retry = retry
        self.jitter = jitter
        self.reports: DownloadReports = reports or DownloadReports(retry)

    async def back_off(self, slot: DownloadSlot, failure: AttemptFailure, attempts: int) -> float:
        """Wait before the next attempt. Return the seconds that were then spent waiting for a slot."""
        return await slot.back_off(retry_delay(failure.retry_after, attempts, self.retry, self.jitter()))

    async def claim_other_name(self, job: JobState, index: int, taken: str, found: str) -> str:
        """Return a new name for a video, because somebody else's file has its name."""
        name = await self.registry.store.claim_filename(job.key, index, taken=taken)
        text = "job %r: %s already exists and does not belong to this job. It stays, and the clip is stored as %s"
        _log.warning(text, job.key, found, clip_path(self.clips.root, name))
        return name
