"""`AmbiguousSubmits`: the jobs that the server may have accepted, and whether and when each of them is resent.

Used by the submitter. The decisions are in `api.idempotency.reason_not_to_resend` and here; only asking the server what
it declares about idempotency keys is awaited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..api.idempotency import reason_not_to_resend
from ..api.outcomes import SubmitOutcome
from ..errors import with_prefix
from ..ratelimit.backoff import retry_delay

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import OmniError
    from ..jobs.job import JobState
    from ..settings import Retry
    from .key_support import ServerKeySupport

# Responses of a job that cannot be understood and are still followed by a resend. Such a response comes again: a second
# one confirms it, a third one would only be paid.
_MAX_UNREADABLE = 1
# Jobs in a row that are given up because of such responses, before submissions stop: one may be an accident.
_MAX_UNREADABLE_JOBS = 2


@dataclass(slots=True)
class _Attempts:
    number: int = 0
    seconds: float = 0.0  # spent on POSTs and backoffs; waiting for the rate limiter does not count
    unreadable: int = 0  # responses that could not be understood
    is_interrupted: bool = False  # an earlier run left it, and nothing was decided on it yet


class AmbiguousSubmits:
    """The jobs that the server may have accepted: each may hold a slot there, and may be billed.

    `key_age(job)` returns for how many seconds the server may have known the idempotency key of a job.
    """

    def __init__(self, retry: Retry, keys: ServerKeySupport, key_age: Callable[[JobState], float]) -> None:
        self._retry = retry
        self._keys = keys
        self._key_age = key_age
        self._attempts: dict[JobState, _Attempts] = {}
        self._unreadable_in_a_row = 0  # jobs given up because of a response that cannot be understood

    def __contains__(self, job: object) -> bool:
        return job in self._attempts

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, job: JobState, *, is_interrupted: bool = False) -> bool:
        """Add a job. Return False if it is in already. `is_interrupted` says that an earlier run left it."""
        return self._attempts.setdefault(job, new := _Attempts(is_interrupted=is_interrupted)) is new

    def discard(self, job: JobState) -> None:
        """Remove a job: it has an outcome."""
        self._attempts.pop(job, None)

    def on_accepted(self) -> None:
        """Record that a response was understood and that a job is accepted, or that the user lets submits continue."""
        self._unreadable_in_a_row = 0

    async def reason_to_give_up(self, job: JobState, outcome: SubmitOutcome) -> str | None:
        """Return why a job is not resent after an ambiguous outcome; None if it may be."""
        attempts, is_unreadable = self._attempts[job], outcome is SubmitOutcome.UNREADABLE
        attempts.unreadable += is_unreadable
        reason = await self._reason_not_to_resend(job)
        if attempts.unreadable > _MAX_UNREADABLE:
            reason = "a resend would get the same response"
        if reason is not None:
            self._unreadable_in_a_row = self._unreadable_in_a_row + 1 if is_unreadable else 0
        return reason

    async def reason_to_hold(self, job: JobState) -> str | None:
        """Return why a job whose turn has come is not resent after all; None if it is.

        Raise `TransportError` if that depends on the server, which cannot be reached.
        """
        attempts = self._attempts[job]
        if attempts.is_interrupted:
            reason = await self._reason_not_to_resend(job)
            if reason is not None and self._retry.ambiguous == "auto" and self._keys.unreachable is not None:
                raise self._keys.unreachable.with_traceback(None)
            attempts.is_interrupted = False
            return reason and f"it was being sent when an earlier run ended; {reason}"
        return reason_not_to_resend("retry", self._keys.of(job.record.model), self._key_age(job))

    async def _reason_not_to_resend(self, job: JobState) -> str | None:
        mode, model = self._retry.ambiguous, job.record.model
        support = self._keys.of(model)
        if mode == "auto" and not support.is_honoured:
            support = await self._keys.ask(model)
        return reason_not_to_resend(mode, support, self._key_age(job))

    def next_delay(self, job: JobState, seconds: float, *, retry_after: float | None, jitter: float) -> float | None:
        """Return the backoff in seconds after a POST that took `seconds`; None once `Retry.timeout` has passed."""
        attempts = self._attempts[job]
        attempts.seconds += seconds
        if attempts.seconds > self._retry.timeout:
            return None
        pause = retry_delay(retry_after, attempts.number, self._retry, jitter)
        attempts.number += 1
        attempts.seconds += pause
        return pause

    def error_to_stop(self, error: OmniError) -> OmniError | None:
        """Return the error with which all submits stop, because responses cannot be understood; None if they may go on.

        `error` says what the last response was.
        """
        if self._unreadable_in_a_row < _MAX_UNREADABLE_JOBS:
            return None
        return with_prefix(
            f"the server's responses to {_MAX_UNREADABLE_JOBS} jobs in a row cannot be understood, and each may have "
            "been accepted and billed. Check the base URL and the account's usage. The last one",
            error,
        )
