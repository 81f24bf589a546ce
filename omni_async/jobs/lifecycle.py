"""The life of a job as a table: which status may follow which; an illegal move raises and changes nothing."""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"  # recorded, not sent (also: waits for its parent)
    SUBMITTING = "submitting"  # the POST may be on its way: from here money may be spent
    RUNNING = "running"  # accepted; the server is working
    DOWNLOADING = "downloading"  # finished there; the clip is on its way
    COMPLETED = "completed"  # the clip is on disk, whole
    FAILED = "failed"  # refused or failed by the server; says why
    UNKNOWN = "unknown"  # the submit's outcome cannot be known
    TIMED_OUT = "timed_out"  # not seen to finish in time; it may still finish
    DOWNLOAD_FAILED = "download_failed"  # paid and finished, but the file could not be stored
    CANCELLED = "cancelled"  # given up here; if it was accepted, the server still runs and bills it

    @property
    def is_final(self) -> bool:
        """True where nothing more happens by itself."""
        return self not in _ACTIVE


class InvalidTransition(RuntimeError):
    """A job was asked to go where the table has no way; a bug in this library, never a user's fault."""


_S = JobStatus

_ACTIVE = frozenset({_S.WAITING, _S.SUBMITTING, _S.RUNNING, _S.DOWNLOADING})

# Nothing is left to do about these by itself, also not in a later run.
NOT_RESUMABLE = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.UNKNOWN})

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _S.WAITING: frozenset({_S.SUBMITTING, _S.CANCELLED, _S.FAILED}),
    _S.SUBMITTING: frozenset({_S.RUNNING, _S.WAITING, _S.UNKNOWN, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.DOWNLOADING, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED}),
    _S.DOWNLOADING: frozenset({_S.COMPLETED, _S.DOWNLOAD_FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset({_S.DOWNLOADING}),  # the file has vanished since: fetched again, without paying
    _S.FAILED: frozenset(),
    _S.UNKNOWN: frozenset({_S.SUBMITTING}),  # only when a person says so
    _S.TIMED_OUT: frozenset({_S.RUNNING}),  # attach, resume
    _S.DOWNLOAD_FAILED: frozenset({_S.DOWNLOADING}),  # resume
    _S.CANCELLED: frozenset({_S.RUNNING}),  # attach
}


def check_transition(current: JobStatus, following: JobStatus) -> None:
    """Raise `InvalidTransition` unless the table lets a job go from `current` to `following`."""
    if following not in TRANSITIONS[current]:
        ways = ", ".join(sorted(TRANSITIONS[current])) or "nowhere"
        raise InvalidTransition(f"a job cannot go from {current} to {following}; from {current} it goes to {ways}")
