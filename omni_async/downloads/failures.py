"""Why an attempt to download a clip failed, and what follows from it: try again, with a fresh URL, or give up.

Used by `ClipDownload`, which makes the attempts, and by `UrlRefresher`, whose checks may fail as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DownloadError, TransportError, TransportTimeout
from .evidence import LINK_REFUSED, status_evidence
from .ranges import MAX_CLIP_BYTES, URL_EXPIRED

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from ..jobs.job import JobState

# Replies in a row before this one that must have refused the task too. A server may lose sight of a task, or call a
# good key invalid, for a moment (behind a load balancer, say), so the first reply is not final. At half, a short lapse
# makes a paid clip `download_failed`; at double, a task that is gone is checked a few times more, for nothing. Chosen,
# not measured.
_REFUSED_BEFORE = 3

UNREACHABLE = "unreachable"  # the kind of failure of a host to which no connection can be made
_BROKEN_OFF = "broken off"
# Failures that may mean that the host has too many downloads to serve.
_OVERLOADED = frozenset({UNREACHABLE, "silent", "HTTP 429", "HTTP 503"})


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why an attempt has not completed the clip."""

    reason: str
    needs_url: bool = False  # the next attempt needs a fresh URL
    is_final: bool = False  # no attempt can succeed
    is_refused: bool = False  # no such task, or not for this API key, says the server: final if repeated
    retry_after: float | None = None  # seconds to wait, as the server asked
    is_check: bool = False  # the check for a fresh URL failed: that says nothing about the host of the clip
    kind: str = ""  # one word: reports group failures by it
    evidence: Hashable | None = None  # if the next failure has the same, no attempt can succeed

    def may_be_overload(self, received: int) -> bool:
        """Return whether the host may have too many downloads to serve, after this many bytes of this attempt."""
        return self.kind in _OVERLOADED or (self.kind == _BROKEN_OFF and not received)

    def is_final_after(self, checks: int) -> bool:
        """Return whether to give up now, regardless of the time left. `checks` failed in a row before this failure."""
        return self.is_final or (self.is_refused and checks >= _REFUSED_BEFORE)


def transport_failure(error: TransportError) -> AttemptFailure:
    """Return the failure for an error of the connection to a clip's host."""
    if error.permanent:
        return AttemptFailure(str(error), needs_url=True, kind="refused", evidence=LINK_REFUSED)
    kind = UNREACHABLE if not error.sent else "silent" if isinstance(error, TransportTimeout) else _BROKEN_OFF
    return AttemptFailure(str(error), needs_url=not error.sent, kind=kind)


def status_failure(status: int, retry_after: float | None) -> AttemptFailure:
    """Return the failure for a response of a clip's host, judged by its status alone."""
    evidence = status_evidence(status)
    reason, kind = f"the download URL gives HTTP {status}", f"HTTP {status}"
    needs_url = status in URL_EXPIRED or evidence is not None
    return AttemptFailure(
        reason, needs_url=needs_url, retry_after=None if needs_url else retry_after, kind=kind, evidence=evidence
    )


def size_failure(size: int) -> AttemptFailure:
    """Return the failure for a clip of this size, which is too large."""
    return AttemptFailure(f"it has {size} bytes or more, above the limit of {MAX_CLIP_BYTES}", is_final=True)


def misfit_failure(status: int) -> AttemptFailure:
    """Return the failure for a body that does not continue what was received before."""
    return AttemptFailure(f"the rest does not fit what was received before (HTTP {status})", kind="changed")


@dataclass(slots=True)
class AttemptCounter:
    """What was tried since the clip last grew. Checks and transfers are counted apart: they fail independently."""

    since: float  # time of the event loop
    reached: int = 0  # bytes
    checks: int = 0  # in a row that gave no URL
    transfers: int = 0

    def count(self, failure: AttemptFailure) -> int | None:
        """Return how many failures of its kind came before this one; None if the next attempt need not wait."""
        if failure.is_check:
            self.checks += 1
            return self.checks - 1
        self.checks = 0
        self.transfers += 1
        return None if self.transfers == 1 and failure.needs_url else self.transfers - 1


def download_failed(job: JobState, path: Path, reason: str, url: str = "") -> DownloadError:
    """Return the error for a clip that is paid for and could not be stored."""
    return DownloadError(
        f"job {job.key!r} (task {job.task_id}) is finished and paid, but {path} could not be stored: {reason}. Fix the "
        f"problem and run the same command again, or download it with omni-async fetch {job.task_id}. You are not "
        "charged again",
        path=str(path),
        url=url,
    )
