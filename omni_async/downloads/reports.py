"""`DownloadReports`: tells the user that downloads are waiting, and when they continue.

Otherwise a host of clips that fails, or cannot be reached, would go unnoticed for as long as downloads are retried. The
user is told once for each host and kind of failure, however many jobs wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs.notices import Outages
from ..logs import get_logger
from .links import host_of

if TYPE_CHECKING:
    from ..settings import Retry
    from .failures import AttemptFailure


_log = get_logger(__name__)

# Failures that take so long, or are so unlikely to pass quickly, that the user is told about the first one. Others are
# reported at the second one in a row: a single one is common, and over before anyone would have read about it.
_TOLD_AT_ONCE = frozenset({"unreachable", "silent"})
_API = "the API"


class DownloadReports:
    """Records each failed attempt, and progress. Times are seconds of one monotonic clock."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._outages = Outages()

    def failed(self, key: str, url: str, failure: AttemptFailure, earlier: int, now: float) -> None:
        """Record that the job `key` waits, after a failure with `earlier` ones of its kind directly before it."""
        if not earlier and failure.kind not in _TOLD_AT_ONCE:
            return
        place = _API if failure.is_check else host_of(url)
        if self._outages.failed(key, place, failure.kind, now):
            text = "downloads wait for %s: %s. Each is retried until it has made no progress for %g s"
            _log.warning(text, place, failure.reason, self._retry.timeout)

    def progressed(self, key: str, now: float) -> None:
        """Record that the clip of a job grows."""
        if (recovery := self._outages.recovered(key, now)) is not None:
            text = "downloads continue: %s works again after %.0f s; %d had waited for it"
            _log.warning(text, recovery.place, recovery.seconds, recovery.waiters)

    def checked(self, key: str, now: float) -> None:
        """Record that a check has given a job its URL."""
        if self._outages.place_of(key) == _API:
            self.progressed(key, now)

    def ended(self, key: str) -> None:
        """Record that a job no longer waits, whatever has become of its clip."""
        self._outages.gave_up(key)
