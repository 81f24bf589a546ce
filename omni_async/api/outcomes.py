"""What a response to a submit, a check or an upload means: the table on which all money decisions rest.

Pure functions from a response or a transport error to a decision; the stages carry the decisions out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..errors import APIError, OmniError, PaymentRequired, RateLimited, TransportError
from ..models.responses import Task, TaskState
from ..ratelimit.backoff import give_up_after
from . import parsing as wire

if TYPE_CHECKING:
    from ..settings import Retry
    from .parsing import Response


# The codes by which relays of this family say "no credit" under other statuses than 402.
_NO_CREDIT = frozenset(
    {
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_balance",
        "insufficient_credits",
        "billing_hard_limit_reached",
        "payment_required",
    }
)

# Parameter errors that arrive as a 500: resending them can never help.
_BAD_PARAMETER = re.compile(
    r"build_request_failed|invalid_request|"
    r"\b(?:invalid|unsupported|missing|unknown)\s+(?:required\s+)?(?:parameter|param|field|size|duration|model|prompt|"
    r"image_urls|video_urls|aspect_ratio|resolution|extend_from_task_id)\b",
    re.IGNORECASE,
)

_NEW_TASK_GRACE = 60.0  # seconds in which a server may not know yet a task that it has just accepted
_FINAL_NOT_FOUND = 3  # so many 404s in a row are believed
_MISSES_BEFORE_GIVING_UP = 5
_IDEMPOTENCY_LIFETIME = 86_400.0  # seconds that the server remembers a key, as its schema says


class SubmitOutcome(Enum):
    """What became of a submit."""

    ACCEPTED = auto()  # it has a task_id
    NOT_SENT = auto()  # no byte left: resend freely
    RETRY_LATER = auto()  # refused for now: wait, resend with the same key
    REJECTED = auto()  # refused for good: the job fails
    STOP_ALL = auto()  # no submit can succeed now: the whole line stops
    AMBIGUOUS = auto()  # the server may have taken it
    INDETERMINATE = auto()  # the server itself does not know: resend never


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """A verdict with what belongs to it. `for_all` tells whether it concerns every submit or only this one.

    `url` is where an upload that was taken can be fetched. `is_replay` is the server's word that it had accepted this
    very submit before and has not done so twice.
    """

    outcome: SubmitOutcome
    task_id: str | None = None
    error: OmniError | None = None
    retry_after: float | None = None
    applies_to_all: bool = False
    is_replay: bool = False
    url: str = ""


def classify_submit(answer: Response | TransportError, *, now: float) -> SubmitResult:
    """Decide what became of a submit from its answer; `now` is in unix seconds."""
    if isinstance(answer, TransportError):
        if answer.permanent and not answer.sent:
            return SubmitResult(SubmitOutcome.STOP_ALL, error=answer)
        return SubmitResult(
            SubmitOutcome.AMBIGUOUS if answer.sent else SubmitOutcome.NOT_SENT,
            error=answer,
            applies_to_all=not answer.sent,
        )
    if task_id := wire.parse_task_id(answer):
        is_replay = answer.headers.get("idempotency-replayed", "").strip().lower() in {"true", "1", "yes"}
        return SubmitResult(SubmitOutcome.ACCEPTED, task_id=task_id, is_replay=is_replay)
    error = wire.parse_error(answer, now=now, about="submit")
    verdict = _classify_error(error, is_page=wire.is_not_json(answer))
    return SubmitResult(
        verdict,
        error=_as_no_credit(error) if verdict is SubmitOutcome.STOP_ALL else error,
        retry_after=wire.retry_after(answer, now),
        applies_to_all=verdict is SubmitOutcome.RETRY_LATER and error.status != 409,
    )


def _classify_error(error: APIError, *, is_page: bool) -> SubmitOutcome:
    status, words = error.status, f"{error.code} {error.type} {error.message}"
    if status in {401, 402} or 300 <= status < 400 or _says_no_credit(error):
        return SubmitOutcome.STOP_ALL
    if status in {403, 404, 405} and is_page:
        return SubmitOutcome.STOP_ALL  # a gateway, or another server: it would say so to every submit
    if status in {425, 429} or (status == 503 and "idempotency_unavailable" in words):
        return SubmitOutcome.RETRY_LATER
    if status == 409 and "idempotency_in_progress" in words:
        return SubmitOutcome.RETRY_LATER
    if status == 409 and "idempotency_result_indeterminate" in words:
        return SubmitOutcome.INDETERMINATE
    if status == 500 and _BAD_PARAMETER.search(words):
        return SubmitOutcome.REJECTED
    if status == 408 or not 400 <= status < 500:
        return SubmitOutcome.AMBIGUOUS
    return SubmitOutcome.REJECTED


def _says_no_credit(error: APIError) -> bool:
    return error.status < 500 and bool({error.code, error.type} & _NO_CREDIT)


def _as_no_credit(error: APIError) -> APIError:
    """Give the error that tells the reader to top up, whatever status the server chose for it."""
    if not _says_no_credit(error):
        return error
    return PaymentRequired(
        str(error),
        status=error.status,
        code=error.code,
        type=error.type,
        message=error.message,
        request_id=error.request_id,
    )


def classify_upload(answer: Response | TransportError, *, now: float, about: str) -> SubmitResult:
    """Decide what became of an upload. It costs nothing: an unclear outcome (`AMBIGUOUS`) may simply be tried again."""
    if isinstance(answer, TransportError):
        return SubmitResult(SubmitOutcome.AMBIGUOUS if answer.sent else SubmitOutcome.NOT_SENT, error=answer)
    if url := wire.parse_upload(answer):
        return SubmitResult(SubmitOutcome.ACCEPTED, url=url)
    error = wire.parse_error(answer, now=now, about=about)
    verdict = _classify_error(error, is_page=wire.is_not_json(answer))
    advice = wire.retry_after(answer, now)
    return SubmitResult(
        verdict, error=_as_no_credit(error) if verdict is SubmitOutcome.STOP_ALL else error, retry_after=advice
    )


def upload_retry_timeout(verdict: SubmitOutcome, retry: Retry) -> float:
    """Give for how many seconds an upload is tried again after such outcomes: 0 after a clear no."""
    match verdict:
        case SubmitOutcome.AMBIGUOUS | SubmitOutcome.NOT_SENT | SubmitOutcome.INDETERMINATE:
            return retry.timeout
        case SubmitOutcome.RETRY_LATER:
            return give_up_after(retry)
        case _:
            return 0.0


class CheckOutcome(Enum):
    """What one check has shown."""

    RUNNING = auto()
    FINISHED = auto()
    NO_URL = auto()  # finished, but nothing to fetch is named (yet)
    FAILED = auto()
    INCONCLUSIVE = auto()  # nothing about the task was learnt
    DENIED = auto()  # this key may not look
    NOT_FOUND = auto()  # the server says that it knows no such task


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check has shown, with what belongs to it."""

    outcome: CheckOutcome
    task: Task | None = None
    error: OmniError | None = None
    retry_after: float | None = None


_CHECK_OUTCOMES = {
    TaskState.RUNNING: CheckOutcome.RUNNING,
    TaskState.DONE: CheckOutcome.FINISHED,
    TaskState.FAILED: CheckOutcome.FAILED,
}


def classify_check(answer: Response | TransportError, task_id: str, *, now: float) -> CheckResult:
    """Decide what a check has shown; `now` is in unix seconds."""
    if isinstance(answer, TransportError):
        return CheckResult(CheckOutcome.INCONCLUSIVE, error=answer)
    task = wire.parse_task(answer, task_id)
    if task is not None:
        look = _CHECK_OUTCOMES[task.state]
        return CheckResult(CheckOutcome.NO_URL if look is CheckOutcome.FINISHED and not task.videos else look, task)
    error = wire.parse_error(answer, now=now, about="check")
    # Only a spoken no counts: a gateway's page under 403 or 404 says nothing about the task.
    if error.status in {401, 403} and not wire.is_not_json(answer):
        return CheckResult(CheckOutcome.DENIED, error=error)
    look = (
        CheckOutcome.NOT_FOUND
        if error.status in {400, 404} and (error.type or error.code)
        else CheckOutcome.INCONCLUSIVE
    )
    return CheckResult(look, error=error, retry_after=wire.retry_after(answer, now))


def is_key_valid(age: float) -> bool:
    """Tell whether the server still knows an idempotency key that it first heard `age` seconds ago."""
    return age < _IDEMPOTENCY_LIFETIME


def may_resend(age: float, retry: Retry) -> bool:
    """Tell whether a submit that was cut short `age` seconds ago may be resent under its old idempotency key."""
    return retry.ambiguous == "retry" and is_key_valid(age)


def is_rate_limit(error: OmniError | None) -> bool:
    """Tell whether an error asks everybody to slow down."""
    return isinstance(error, RateLimited) and not isinstance(error, PaymentRequired)


def is_not_found_final(in_a_row: int, age: float) -> bool:
    """Tell whether to believe that a task which was accepted `age` seconds ago does not exist."""
    return age > _NEW_TASK_GRACE and in_a_row >= _FINAL_NOT_FOUND


def should_stop_checking(in_a_row: int, seconds: float, retry: Retry) -> bool:
    """Tell whether so many failed checks in a row, over so many seconds, end the following of a job."""
    return in_a_row >= _MISSES_BEFORE_GIVING_UP and seconds > retry.timeout
