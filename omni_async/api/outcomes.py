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
from .parsing import Response, is_not_json, parse_error, parse_retry_after, parse_task, parse_task_id, parse_upload

if TYPE_CHECKING:
    from ..settings import Retry


# The codes by which relays of this family say "no credit" under other statuses than 402.
_NO_CREDIT_CODES = frozenset(
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
_MAX_NOT_FOUND = 3  # so many 404s in a row are believed
_MAX_INCONCLUSIVE = 5
_KEY_LIFETIME = 86_400.0  # seconds that the server remembers a key, as its schema says


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


def classify_submit(response: Response | TransportError, *, now: float) -> SubmitResult:
    """Decide what became of a submit from its answer; `now` is in unix seconds."""
    if isinstance(response, TransportError):
        if response.permanent and not response.sent:
            return SubmitResult(SubmitOutcome.STOP_ALL, error=response)
        return SubmitResult(
            SubmitOutcome.AMBIGUOUS if response.sent else SubmitOutcome.NOT_SENT,
            error=response,
            applies_to_all=not response.sent,
        )
    if task_id := parse_task_id(response):
        is_replay = response.headers.get("idempotency-replayed", "").strip().lower() in {"true", "1", "yes"}
        return SubmitResult(SubmitOutcome.ACCEPTED, task_id=task_id, is_replay=is_replay)
    error = parse_error(response, now=now, operation="submit")
    verdict = _classify_error(error, is_page=is_not_json(response))
    return SubmitResult(
        verdict,
        error=_as_payment_required(error) if verdict is SubmitOutcome.STOP_ALL else error,
        retry_after=parse_retry_after(response, now),
        applies_to_all=verdict is SubmitOutcome.RETRY_LATER and error.status != 409,
    )


def _classify_error(error: APIError, *, is_page: bool) -> SubmitOutcome:
    status, words = error.status, f"{error.code} {error.type} {error.message}"
    if status in {401, 402} or 300 <= status < 400 or _is_out_of_credit(error):
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


def _is_out_of_credit(error: APIError) -> bool:
    return error.status < 500 and bool({error.code, error.type} & _NO_CREDIT_CODES)


def _as_payment_required(error: APIError) -> APIError:
    """Give the error that tells the reader to top up, whatever status the server chose for it."""
    if not _is_out_of_credit(error):
        return error
    return PaymentRequired(
        str(error),
        status=error.status,
        code=error.code,
        type=error.type,
        message=error.message,
        request_id=error.request_id,
    )


def classify_upload(response: Response | TransportError, *, now: float, operation: str) -> SubmitResult:
    """Decide what became of an upload. It costs nothing: an unclear outcome (`AMBIGUOUS`) may simply be tried again."""
    if isinstance(response, TransportError):
        return SubmitResult(SubmitOutcome.AMBIGUOUS if response.sent else SubmitOutcome.NOT_SENT, error=response)
    if url := parse_upload(response):
        return SubmitResult(SubmitOutcome.ACCEPTED, url=url)
    error = parse_error(response, now=now, operation=operation)
    verdict = _classify_error(error, is_page=is_not_json(response))
    advice = parse_retry_after(response, now)
    return SubmitResult(
        verdict, error=_as_payment_required(error) if verdict is SubmitOutcome.STOP_ALL else error, retry_after=advice
    )


def upload_retry_timeout(outcome: SubmitOutcome, retry: Retry) -> float:
    """Give for how many seconds an upload is tried again after such outcomes: 0 after a clear no."""
    match outcome:
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


def classify_check(response: Response | TransportError, task_id: str, *, now: float) -> CheckResult:
    """Decide what a check has shown; `now` is in unix seconds."""
    if isinstance(response, TransportError):
        return CheckResult(CheckOutcome.INCONCLUSIVE, error=response)
    task = parse_task(response, task_id)
    if task is not None:
        look = _CHECK_OUTCOMES[task.state]
        return CheckResult(CheckOutcome.NO_URL if look is CheckOutcome.FINISHED and not task.videos else look, task)
    error = parse_error(response, now=now, operation="check")
    # Only a spoken no counts: a gateway's page under 403 or 404 says nothing about the task.
    if error.status in {401, 403} and not is_not_json(response):
        return CheckResult(CheckOutcome.DENIED, error=error)
    look = (
        CheckOutcome.NOT_FOUND
        if error.status in {400, 404} and (error.type or error.code)
        else CheckOutcome.INCONCLUSIVE
    )
    return CheckResult(look, error=error, retry_after=parse_retry_after(response, now))


def is_key_valid(age: float) -> bool:
    """Tell whether the server still knows an idempotency key that it first heard `age` seconds ago."""
    return age < _KEY_LIFETIME


def may_resend(age: float, retry: Retry) -> bool:
    """Tell whether a submit that was cut short `age` seconds ago may be resent under its old idempotency key."""
    return retry.ambiguous == "retry" and is_key_valid(age)


def is_rate_limit(error: OmniError | None) -> bool:
    """Tell whether an error asks everybody to slow down."""
    return isinstance(error, RateLimited) and not isinstance(error, PaymentRequired)


def is_not_found_final(consecutive: int, age: float) -> bool:
    """Tell whether to believe that a task which was accepted `age` seconds ago does not exist."""
    return age > _NEW_TASK_GRACE and consecutive >= _MAX_NOT_FOUND


def should_stop_checking(consecutive: int, duration: float, retry: Retry) -> bool:
    """Tell whether so many failed checks in a row, over so many seconds, end the following of a job."""
    return consecutive >= _MAX_INCONCLUSIVE and duration > retry.timeout
