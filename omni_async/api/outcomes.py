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
from ..ratelimit.backoff import patience
from . import parsing as wire

if TYPE_CHECKING:
    from ..settings import Retry
    from .parsing import Reply


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


class Verdict(Enum):
    """What became of a submit."""

    ACCEPTED = auto()  # it has a task_id
    NOT_SENT = auto()  # no byte left: resend freely
    LATER = auto()  # refused for now: wait, resend with the same key
    NEVER = auto()  # refused for good: the job fails
    STOP = auto()  # no submit can succeed now: the whole line stops
    AMBIGUOUS = auto()  # the server may have taken it
    INDETERMINATE = auto()  # the server itself does not know: resend never


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what belongs to it. `for_all` tells whether it concerns every submit or only this one.

    `url` is where an upload that was taken can be fetched. `is_replay` is the server's word that it had accepted this
    very submit before and has not done so twice.
    """

    verdict: Verdict
    task_id: str | None = None
    error: OmniError | None = None
    retry_after: float | None = None
    for_all: bool = False
    is_replay: bool = False
    url: str = ""


def judge_submit(answer: Reply | TransportError, *, now: float) -> Judgement:
    """Decide what became of a submit from its answer; `now` is in unix seconds."""
    if isinstance(answer, TransportError):
        if answer.lasting and not answer.sent:
            return Judgement(Verdict.STOP, error=answer)
        return Judgement(Verdict.AMBIGUOUS if answer.sent else Verdict.NOT_SENT, error=answer, for_all=not answer.sent)
    if task_id := wire.task_id_in(answer):
        is_replay = answer.headers.get("idempotency-replayed", "").strip().lower() in {"true", "1", "yes"}
        return Judgement(Verdict.ACCEPTED, task_id=task_id, is_replay=is_replay)
    error = wire.read_error(answer, now=now, about="submit")
    verdict = _verdict_on(error, is_page=wire.is_page(answer))
    return Judgement(
        verdict,
        error=_as_no_credit(error) if verdict is Verdict.STOP else error,
        retry_after=wire.retry_after(answer, now),
        for_all=verdict is Verdict.LATER and error.status != 409,
    )


def _verdict_on(error: APIError, *, is_page: bool) -> Verdict:
    status, words = error.status, f"{error.code} {error.type} {error.message}"
    if status in {401, 402} or 300 <= status < 400 or _says_no_credit(error):
        return Verdict.STOP
    if status in {403, 404, 405} and is_page:
        return Verdict.STOP  # a gateway, or another server: it would say so to every submit
    if status in {425, 429} or (status == 503 and "idempotency_unavailable" in words):
        return Verdict.LATER
    if status == 409 and "idempotency_in_progress" in words:
        return Verdict.LATER
    if status == 409 and "idempotency_result_indeterminate" in words:
        return Verdict.INDETERMINATE
    if status == 500 and _BAD_PARAMETER.search(words):
        return Verdict.NEVER
    if status == 408 or not 400 <= status < 500:
        return Verdict.AMBIGUOUS
    return Verdict.NEVER


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


def judge_upload(answer: Reply | TransportError, *, now: float, about: str) -> Judgement:
    """Decide what became of an upload. It costs nothing: an unclear outcome (`AMBIGUOUS`) may simply be tried again."""
    if isinstance(answer, TransportError):
        return Judgement(Verdict.AMBIGUOUS if answer.sent else Verdict.NOT_SENT, error=answer)
    if url := wire.read_upload(answer):
        return Judgement(Verdict.ACCEPTED, url=url)
    error = wire.read_error(answer, now=now, about=about)
    verdict = _verdict_on(error, is_page=wire.is_page(answer))
    advice = wire.retry_after(answer, now)
    return Judgement(verdict, error=_as_no_credit(error) if verdict is Verdict.STOP else error, retry_after=advice)


def upload_patience(verdict: Verdict, retry: Retry) -> float:
    """Give for how many seconds an upload is tried again after such outcomes: 0 after a clear no."""
    match verdict:
        case Verdict.AMBIGUOUS | Verdict.NOT_SENT | Verdict.INDETERMINATE:
            return retry.budget
        case Verdict.LATER:
            return patience(retry)
        case _:
            return 0.0


class Look(Enum):
    """What one check has shown."""

    RUNNING = auto()
    DONE = auto()
    NO_LINK = auto()  # finished, but nothing to fetch is named (yet)
    FAILED = auto()
    MISSED = auto()  # nothing about the task was learnt
    DENIED = auto()  # this key may not look
    NOT_FOUND = auto()  # the server says that it knows no such task


@dataclass(frozen=True, slots=True)
class Sight:
    """What one check has shown, with what belongs to it."""

    look: Look
    task: Task | None = None
    error: OmniError | None = None
    retry_after: float | None = None


_LOOKS = {TaskState.RUNNING: Look.RUNNING, TaskState.DONE: Look.DONE, TaskState.FAILED: Look.FAILED}


def judge_check(answer: Reply | TransportError, task_id: str, *, now: float) -> Sight:
    """Decide what a check has shown; `now` is in unix seconds."""
    if isinstance(answer, TransportError):
        return Sight(Look.MISSED, error=answer)
    task = wire.read_task(answer, task_id)
    if task is not None:
        look = _LOOKS[task.state]
        return Sight(Look.NO_LINK if look is Look.DONE and not task.videos else look, task)
    error = wire.read_error(answer, now=now, about="check")
    # Only a spoken no counts: a gateway's page under 403 or 404 says nothing about the task.
    if error.status in {401, 403} and not wire.is_page(answer):
        return Sight(Look.DENIED, error=error)
    look = Look.NOT_FOUND if error.status in {400, 404} and (error.type or error.code) else Look.MISSED
    return Sight(look, error=error, retry_after=wire.retry_after(answer, now))


def is_remembered(age: float) -> bool:
    """Tell whether the server still knows an idempotency key that it first heard `age` seconds ago."""
    return age < _IDEMPOTENCY_LIFETIME


def may_resend(age: float, retry: Retry) -> bool:
    """Tell whether a submit that was cut short `age` seconds ago may be resent under its old idempotency key."""
    return retry.ambiguous == "retry" and is_remembered(age)


def is_rate_limit(error: OmniError | None) -> bool:
    """Tell whether an error asks everybody to slow down."""
    return isinstance(error, RateLimited) and not isinstance(error, PaymentRequired)


def believes_not_found(in_a_row: int, age: float) -> bool:
    """Tell whether to believe that a task which was accepted `age` seconds ago does not exist."""
    return age > _NEW_TASK_GRACE and in_a_row >= _FINAL_NOT_FOUND


def gives_up_looking(in_a_row: int, seconds: float, retry: Retry) -> bool:
    """Tell whether so many failed checks in a row, over so many seconds, end the following of a job."""
    return in_a_row >= _MISSES_BEFORE_GIVING_UP and seconds > retry.budget
