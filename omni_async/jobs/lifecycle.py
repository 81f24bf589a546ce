"""The life of a job as a table: which status may follow which. The registry checks every change against it."""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """The statuses of a job."""

    WAITING = "waiting"  # recorded, not sent (also: waits for its parent)
    SUBMITTING = "submitting"  # the POST may be on its way: from here money may be spent
    RUNNING = "running"  # accepted; the server is working
    DOWNLOADING = "downloading"  # finished on the server; the clip is being transferred
    COMPLETED = "completed"  # the clip is on disk, complete
    FAILED = "failed"  # refused or failed by the server, which says why
    UNKNOWN = "unknown"  # it cannot be known whether the server accepted it
    TIMED_OUT = "timed_out"  # not finished in time; it may still finish
    DOWNLOAD_FAILED = "download_failed"  # paid and finished, but the file could not be stored
    CANCELLED = "cancelled"  # cancelled here; if it was accepted, the server continues and bills it

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens automatically."""
        return self not in _ACTIVE


class InvalidTransition(RuntimeError):
    """The table does not allow a change of status. A bug in this library, never a user's mistake."""


_S = JobStatus

_ACTIVE = frozenset({_S.WAITING, _S.SUBMITTING, _S.RUNNING, _S.DOWNLOADING})

# `OmniClient.resume` leaves these alone: they are done, or only the user may decide.
NOT_RESUMABLE = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.UNKNOWN})

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _S.WAITING: frozenset({_S.SUBMITTING, _S.CANCELLED, _S.FAILED}),
    _S.SUBMITTING: frozenset({_S.RUNNING, _S.WAITING, _S.UNKNOWN, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.DOWNLOADING, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED}),
    _S.DOWNLOADING: frozenset({_S.COMPLETED, _S.DOWNLOAD_FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset({_S.DOWNLOADING}),  # the file has vanished: downloaded again, without paying
    _S.FAILED: frozenset(),
    _S.UNKNOWN: frozenset({_S.RUNNING}),  # its task_id turned up later
    _S.TIMED_OUT: frozenset({_S.RUNNING}),  # attach, resume
    _S.DOWNLOAD_FAILED: frozenset({_S.DOWNLOADING}),  # resume
    _S.CANCELLED: frozenset({_S.RUNNING}),  # attach
}

# What `OmniClient.resubmit` adds. Every job but a completed one may be sent again under a new idempotency key. One that
# the server may have accepted may also be sent under its old key, which the server may still recognize.
ON_REQUEST: dict[JobStatus, frozenset[JobStatus]] = {
    **{status: frozenset({_S.WAITING}) for status in JobStatus},
    _S.UNKNOWN: frozenset({_S.WAITING, _S.SUBMITTING}),
    _S.CANCELLED: frozenset({_S.WAITING, _S.SUBMITTING}),
    _S.COMPLETED: frozenset(),
}


def check_transition(current: JobStatus, following: JobStatus, *, on_request: bool = False) -> None:
    """Raise `InvalidTransition` unless a job may change from `current` to `following`.

    `on_request` allows what only a user may ask for, because it may be paid again.
    """
    allowed = TRANSITIONS[current] | (ON_REQUEST[current] if on_request else frozenset())
    if following not in allowed:
        listed = ", ".join(sorted(allowed)) or "none"
        raise InvalidTransition(f"a job cannot change from {current} to {following}; allowed: {listed}")
