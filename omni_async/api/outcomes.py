"""What a response to a submit, a check or an upload means. Every decision about money is made here.

Pure functions from a response, or from a transport error, to an outcome. The stages act on the outcome.

What each response to a submit means. The first row that matches wins. "Status" is the HTTP status, or the status that
the body of a 2xx names. "Billed" says whether the account may have been charged for this request.

======================================================== ============== ======= ========================================
response                                                 outcome        billed  what the client does
======================================================== ============== ======= ========================================
none; no byte was sent, and only the user can fix that   STOP_ALL       no      stops all submits; jobs stay waiting
none; it was withheld: another process has taken over    WITHHELD       no      stops all submits; jobs stay waiting
none; no byte was sent (DNS, connect, TLS, proxy)        NOT_SENT       no      pauses all submits, then resends
none; a response came that is not readable as HTTP       UNREADABLE     unknown resends once at most
none; timeout or disconnect after the first byte         AMBIGUOUS      unknown decided by `Retry.ambiguous`
a task id where a submit response has it, any status     ACCEPTED       yes     follows the task
401, 402, 407, 3xx; words for "no credit", any status    STOP_ALL       no      stops all submits; jobs stay waiting
`model_not_found`, "no available channel", any status    NO_MODEL       no      confirms it, stops this model's jobs
`get_channel_failed`, any status                         NO_CHANNEL     no      pauses this model's jobs, then resends
403, 404, 405 without JSON (a gateway, a wrong address)  STOP_ALL       no      stops all submits; jobs stay waiting
425, 429; 503 `idempotency_unavailable`                  RETRY_LATER    no      pauses all submits, then resends (1)
409 `idempotency_in_progress`                            RETRY_LATER    no      waits for the job's earlier request
409 `idempotency_result_indeterminate`                   INDETERMINATE  unknown never resends; the job is `unknown`
500 that names a parameter                               REJECTED       no      the job fails
2xx without a task id, a status that does not exist      UNREADABLE     unknown resends once at most
408, 424, 444, 460, 499, other 5xx                       AMBIGUOUS      unknown decided by `Retry.ambiguous`
any other 4xx                                            REJECTED       no      the job fails
======================================================== ============== ======= ========================================

(1) Limits are learned from a 429, unless it says that the upstream is saturated.

Every resend carries the idempotency key and the bytes of the first submit. APIMart documents 400, 401, 402, 403, 429
and the named idempotency errors as "not executed". The gateway's source shows the same for a model without a channel
and for a quota that is used up: it refuses those before it asks the model. Nothing else proves that a request was not
executed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..errors import APIError, OmniError, PaymentRequired, RateLimited, SubmitWithheld, TransportError
from ..models.responses import Task, TaskState
from ..ratelimit.backoff import give_up_after
from .error_parsing import parse_error, parse_retry_after, unreadable_error
from .parsing import Response, is_not_json, parse_task_id, parse_upload
from .redaction import unredacted
from .task_parsing import parse_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..settings import Retry


# Gateways of this family (One API, New API) send these codes or types for "no credit", under whatever status. 605 is
# that of NOT_ENOUGH_BALANCE under a 200.
_NO_CREDIT_CODES = frozenset(
    {
        "605",
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_credit",
        "insufficient_funds",
        "not_enough_balance",
        "not_enough_credits",
        "pre_consume_token_quota_failed",
        "token_quota_exhausted",
        "quota_exhausted",
        "billing_hard_limit_reached",
        "payment_required",
    }
)
# The same in a message. "Quota exceeded" is not among them: it is also used for rate limits.
_NO_CREDIT_WORDS = re.compile(
    r"not[ _]enough[ _](?:balance|credits?|quota|funds)|"
    r"insufficient[ _](?:\w+[ _]){0,2}(?:balance|credits?|quota|funds)|"
    r"(?:balance|credits?|quota|funds)[ _](?:(?:is|are|has been|have been)[ _])?"
    r"(?:not enough|insufficient|exhausted|used up|too low)|"
    r"out of credits?|no credits? (?:left|remaining)|exceeded your (?:current )?quota|pre_consume_token_quota_failed|"
    r"余额不足|额度不足|额度已用|预扣费额度失败|餘額不足|額度不足|額度已用|残高が不足",
    re.IGNORECASE,
)

# A gateway found no upstream for a model, so nothing was sent to it: for good (a retired model), or just now.
_NO_MODEL = re.compile(r"\bmodel_not_found\b|no available channel|无可用渠道|無可用渠道", re.IGNORECASE)
_NO_CHANNEL = re.compile(r"\bget_channel_failed\b", re.IGNORECASE)

# The gateway uses these words for every 429 of an upstream, which other accounts share: it is not a limit of this
# account. Limits of the account are worded differently.
_SATURATED = re.compile(r"\bsaturated\b|饱和|飽和", re.IGNORECASE)

# The API sends some parameter errors as a 500 ("build_request_failed: invalid size: ..."). Resending cannot help. The
# names of fields keep out errors such as "invalid response from upstream model", after which the task may be running.
_BAD_PARAMETER = re.compile(
    r"build_request_failed|invalid_request|"
    r"\b(?:invalid|unsupported|missing|unknown)\s+(?:required\s+)?(?:parameter|param|field|size|duration|model|prompt|"
    r"image_urls|video_urls|aspect_ratio|resolution|extend_from_task_id)\b",
    re.IGNORECASE,
)

# 4xx of gateways that may come after the request has reached the model: the upstream failed (424), or the connection
# from or to the gateway was closed before the response (444 and 499 of nginx, 499 of gRPC gateways, 460 of AWS).
_MAYBE_EXECUTED = frozenset({408, 424, 444, 460, 499})

# When a 404 for a task is final: the task is older than this many seconds, and this many checks in a row returned it. A
# server with several nodes may not know a task that it has just accepted. Too low gives up a paid job that is still
# running, too high follows a job that does not exist. Both were chosen, not measured.
_NEW_TASK_GRACE = 60.0
_MAX_NOT_FOUND = 3

# Inconclusive checks in a row before a job may be given up; `Retry.timeout` must have passed as well. The number keeps
# one slow check from ending a job, the time keeps a short outage from doing so. Chosen, not measured: with the default
# settings the time decides, and the number matters only if checks are minutes apart.
_MAX_INCONCLUSIVE = 5


class SubmitOutcome(Enum):
    """What is known of a submit, or of an upload, after its request has ended."""

    ACCEPTED = auto()  # the server accepted it and named a task id (or the URL of the upload)
    NOT_SENT = auto()  # no byte left this machine: resend freely
    RETRY_LATER = auto()  # refused for now: wait, then resend with the same idempotency key
    REJECTED = auto()  # refused for good: the job fails
    STOP_ALL = auto()  # no submit can succeed now: stop all of them
    WITHHELD = auto()  # not sent, because this process may no longer submit: stop all of them
    NO_MODEL = auto()  # the server has no upstream for the model: no job of this model can be accepted
    NO_CHANNEL = auto()  # the server has no upstream for the model just now: wait, then resend
    AMBIGUOUS = auto()  # the server may or may not have accepted it
    UNREADABLE = auto()  # a response came that cannot be understood, and would come again: as AMBIGUOUS, see `Retry`
    INDETERMINATE = auto()  # the server itself does not know whether it accepted it: never resend


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """The outcome of a submit or of an upload, with its details.

    - ``task_id``: the id of the accepted task; ``url``: the URL of an accepted upload.
    - ``error``: why it was not accepted; None if it was.
    - ``retry_after``: seconds that the server asks to wait; None if it does not say.
    - ``applies_to_all``: whether the outcome concerns every submit, as a rate limit does, or only this one.
    - ``is_replay``: whether the server says that it had accepted this submit before (`Idempotency-Replayed`), and has
      not accepted it twice.
    """

    outcome: SubmitOutcome
    task_id: str | None = None
    error: OmniError | None = None
    retry_after: float | None = None
    applies_to_all: bool = False
    is_replay: bool = False
    url: str = ""


def classify_submit(response: Response | TransportError, *, now: float, extended: str | None = None) -> SubmitResult:
    """Return the outcome of a submit, by the table above. `now` is the wall-clock time in unix seconds.

    `extended` is the id of the task that the request extends: a response that names it says nothing about a new task.
    """
    if isinstance(response, SubmitWithheld):
        return SubmitResult(SubmitOutcome.WITHHELD, error=response, applies_to_all=True)
    if isinstance(response, TransportError):
        if response.permanent and not response.sent:
            return SubmitResult(SubmitOutcome.STOP_ALL, error=response)
        return SubmitResult(_classify_transport_error(response), error=response, applies_to_all=not response.sent)
    task_id = parse_task_id(response)
    if task_id is not None and task_id != extended:
        is_replay = response.headers.get("idempotency-replayed", "").strip().lower() in {"true", "1", "yes"}
        return SubmitResult(SubmitOutcome.ACCEPTED, task_id=task_id, is_replay=is_replay)
    outcome, error = _classify_refusal(response, now=now, operation="submit")
    if outcome is SubmitOutcome.UNREADABLE:
        error = unreadable_error(response, operation="submit")
    return SubmitResult(
        outcome,
        error=error,
        retry_after=parse_retry_after(response, now),
        # A 409 says that this job's own earlier request is still in progress; other jobs may go ahead.
        applies_to_all=outcome is SubmitOutcome.RETRY_LATER and error.status != 409,
    )


def _classify_transport_error(error: TransportError) -> SubmitOutcome:
    if not error.sent:
        return SubmitOutcome.NOT_SENT
    return SubmitOutcome.UNREADABLE if error.responded else SubmitOutcome.AMBIGUOUS


def _classify_refusal(response: Response, *, now: float, operation: str) -> tuple[SubmitOutcome, APIError]:
    """Return the outcome of a request that the server did not accept, and its error as it may be shown."""
    # The API key may be a word that decides here. Only what is shown is without it.
    as_sent = parse_error(response, now=now, operation=operation, redact=unredacted)
    outcome = _classify_error(as_sent, is_json=not is_not_json(response))
    error = parse_error(response, now=now, operation=operation)
    is_payment = outcome is SubmitOutcome.STOP_ALL and _is_out_of_credit(as_sent)
    return outcome, _as_payment_required(error) if is_payment else error


def _classify_error(error: APIError, *, is_json: bool) -> SubmitOutcome:
    """Return the outcome of a request that the server did not accept, by the lower half of the table above."""
    status = error.status
    if status in {401, 402, 407} or 300 <= status < 400 or _is_out_of_credit(error):
        return SubmitOutcome.STOP_ALL
    if (named := _named_outcome(status, f"{error.code} {error.type} {error.message}")) is not None:
        return named
    if status in {403, 404, 405} and not is_json:
        return SubmitOutcome.STOP_ALL  # from a gateway or another server, which would refuse every submit
    if status in {425, 429}:
        return SubmitOutcome.RETRY_LATER
    if not 400 <= status < 600:
        return SubmitOutcome.UNREADABLE
    return SubmitOutcome.AMBIGUOUS if status in _MAYBE_EXECUTED or status >= 500 else SubmitOutcome.REJECTED


def _named_outcome(status: int, text: str) -> SubmitOutcome | None:
    """Return the outcome of an error that its code or its message names; None if the status decides."""
    if _NO_MODEL.search(text):
        return SubmitOutcome.NO_MODEL
    if _NO_CHANNEL.search(text):
        return SubmitOutcome.NO_CHANNEL
    if (status == 503 and "idempotency_unavailable" in text) or (status == 409 and "idempotency_in_progress" in text):
        return SubmitOutcome.RETRY_LATER
    if status == 409 and "idempotency_result_indeterminate" in text:
        return SubmitOutcome.INDETERMINATE
    return SubmitOutcome.REJECTED if status == 500 and _BAD_PARAMETER.search(text) else None


def _is_out_of_credit(error: APIError) -> bool:
    if {error.code.lower(), error.type.lower()} & _NO_CREDIT_CODES:
        return True
    # A 429 with such words may be a limit per minute; only a code says that it is the credit.
    return error.status != 429 and bool(_NO_CREDIT_WORDS.search(error.message))


def _as_payment_required(error: APIError) -> APIError:
    """Return a `PaymentRequired` with the same details."""
    return PaymentRequired(
        str(error).removesuffix(error.remedy) + PaymentRequired.remedy,
        status=error.status,
        code=error.code,
        type=error.type,
        message=error.message,
        request_id=error.request_id,
    )


def classify_upload(response: Response | TransportError, *, now: float, operation: str) -> SubmitResult:
    """Return the outcome of an upload. Uploads are free, so an ambiguous one may be repeated.

    `now` is the wall-clock time in unix seconds. `operation` names the upload in the text of an error.
    """
    if isinstance(response, TransportError):
        return SubmitResult(_classify_transport_error(response), error=response)
    if url := parse_upload(response):
        return SubmitResult(SubmitOutcome.ACCEPTED, url=url)
    outcome, error = _classify_refusal(response, now=now, operation=operation)
    return SubmitResult(outcome, error=error, retry_after=parse_retry_after(response, now))


def upload_retry_timeout(outcome: SubmitOutcome, retry: Retry) -> float:
    """Return for how many seconds an upload with this outcome is retried: 0 if it was definitely refused."""
    match outcome:
        case SubmitOutcome.RETRY_LATER:
            return give_up_after(retry)
        case SubmitOutcome.ACCEPTED | SubmitOutcome.REJECTED | SubmitOutcome.STOP_ALL | SubmitOutcome.NO_MODEL:
            return 0.0
        case _:
            return retry.timeout


class CheckOutcome(Enum):
    """What a check shows about a task."""

    RUNNING = auto()
    FINISHED = auto()
    NO_URL = auto()  # finished, but without the URL of a video (yet)
    FAILED = auto()
    INCONCLUSIVE = auto()  # the response says nothing about the task
    DENIED = auto()  # the API key may not read the task
    NOT_FOUND = auto()  # the server says that it does not know the task


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of a check, with its details.

    - ``task``: what the response says about the task; None if it says nothing.
    - ``error``: why it says nothing; None if it does.
    - ``retry_after``: seconds that the server asks to wait; None if it does not say.
    """

    outcome: CheckOutcome
    task: Task | None = None
    error: OmniError | None = None
    retry_after: float | None = None


_CHECK_OUTCOMES = {
    TaskState.RUNNING: CheckOutcome.RUNNING,
    TaskState.DONE: CheckOutcome.FINISHED,
    TaskState.FAILED: CheckOutcome.FAILED,
}


def classify_check(
    response: Response | TransportError, task_id: str, *, now: float, requested: Iterable[str] = ()
) -> CheckResult:
    """Return the outcome of a check of a task. `now` is the wall-clock time in unix seconds.

    `requested` are texts of the request: a link that they contain is not a video of the task.

    A failed check is not a failed task: only a response about this task can say that it failed.
    """
    if isinstance(response, TransportError):
        return CheckResult(CheckOutcome.INCONCLUSIVE, error=response)
    task = parse_task(response, task_id, requested)
    if task is not None:
        outcome = _CHECK_OUTCOMES[task.state]
        return CheckResult(
            CheckOutcome.NO_URL if outcome is CheckOutcome.FINISHED and not task.videos else outcome, task
        )
    error = parse_error(response, now=now, operation="check")
    # Only an error object of the API counts: an HTML page of a gateway under 403 or 404 says nothing about the task.
    if error.status in {401, 403} and not is_not_json(response):
        return CheckResult(CheckOutcome.DENIED, error=error)
    # The API documents a 400 for an unknown task id; 404 is what other gateways send.
    is_not_found = error.status in {400, 404} and bool(error.type or error.code)
    outcome = CheckOutcome.NOT_FOUND if is_not_found else CheckOutcome.INCONCLUSIVE
    return CheckResult(outcome, error=error, retry_after=parse_retry_after(response, now))


def is_rate_limit(error: OmniError | None) -> bool:
    """Return whether an error is a rate limit, which concerns all requests of its kind."""
    return isinstance(error, RateLimited) and not isinstance(error, PaymentRequired)


def is_account_limit(error: OmniError | None) -> bool:
    """Return whether a refusal shows a limit of this account, and not that the service is full for everybody."""
    return is_rate_limit(error) and not (isinstance(error, APIError) and _SATURATED.search(error.message))


def is_not_found_final(consecutive: int, age: float) -> bool:
    """Return whether a task that was accepted `age` seconds ago does not exist.

    `consecutive` counts the checks in a row that did not find it.
    """
    return age > _NEW_TASK_GRACE and consecutive >= _MAX_NOT_FOUND


def should_stop_checking(consecutive: int, duration: float, retry: Retry) -> bool:
    """Return whether to stop following a job: `consecutive` inconclusive checks in a row over `duration` seconds."""
    return consecutive >= _MAX_INCONCLUSIVE and duration > retry.timeout
