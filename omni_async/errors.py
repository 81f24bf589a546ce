"""Every error that the library raises, in one tree. Catch a class according to what you can do about it.

::

    OmniError                        anything that goes wrong with the work itself
     +- APIError                     the server refused                    .status .code .type .message .request_id
     |   +- InvalidRequest           400, 413, 422: change the request
     |   |   +- InvalidReference     a local file cannot be sent (also a ValueError)   .path
     |   +- AuthenticationError      401: check the API key
     |   +- PaymentRequired          402: top up the account, then run again
     |   +- PermissionDenied         403: this API key may not do that
     |   +- NotFound                 404: wrong address, or an id unknown to the server (also as 400)
     |   +- Conflict                 409: the idempotency key belongs to another request
     |   +- RateLimited              429: wait                             .retry_after
     |   +- ServerError              5xx: the server or a gateway failed
     +- TransportError               no usable response                    .sent .permanent .responded
     |   +- TransportTimeout         no usable response in time
     |   +- SubmitWithheld           nothing was sent: another process may be submitting now
     +- JobError                     something about one job               .key .task_id
     |   +- JobFailed                the server accepted the job, then failed it       .task
     |   +- JobTimedOut              not finished in time; it may still finish (also a TimeoutError)
     |   +- JobCancelled             cancelled here
     |   +- SubmitOutcomeUnknown     it is unknown whether the server accepted the job
     |   +- ParentFailed             the job that it extends has no result
     |   +- KeyReused                the key already names a job with another request
     +- DownloadError                finished and paid for, but not on disk            .path .url
     +- LedgerError                  the ledger cannot be read or written  .permanent
     |   +- LedgerLocked             another process is using the ledger   .pid
     |   +- LedgerFenced             another process has taken over the ledger
     +- CostLimitReached             the next job might exceed ``Limits(max_cost=)``

    ClientClosed (RuntimeError)      the client is not open                .key .task_id
    UnknownModelWarning (UserWarning)   the rules of a model are unknown; warned once for each model

All of them can be pickled and copied. Everything they carry is a plain attribute.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .plain_text import one_line

if TYPE_CHECKING:
    from .models.responses import Task


_E = TypeVar("_E", bound="OmniError")


class OmniError(Exception):
    """Base class of everything that goes wrong with the work itself.

    Its text is one line and steers no terminal, although it may quote a server, a file or another library.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(one_line(text))


class APIError(OmniError):
    """The server refused a request.

    ``status`` is the HTTP status, or the status that the body of a 200 names. ``code``, ``type`` and ``message`` are
    the fields of the server's error object, ``request_id`` is the id that APIMart's support asks for. What the server
    left out is empty.
    """

    remedy: ClassVar[str] = "Check the base URL"
    """What the reader can do, appended to the text of the error."""

    def __init__(
        self,
        text: str,
        *,
        status: int = 0,
        code: str = "",
        type: str = "",  # noqa: A002 - the server's own name for the field
        message: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.type = type
        self.message = message
        self.request_id = request_id


class InvalidRequest(APIError):
    """The request is invalid (400, 413, 422, or a 500 that names a parameter). Nothing was charged; change it."""

    remedy = "Change the request"


class InvalidReference(InvalidRequest, ValueError):
    """A local file of a request is missing or cannot be sent. Nothing was submitted. ``path`` names the file."""

    def __init__(self, text: str, *, path: str = "", **facts: Any) -> None:
        super().__init__(text, **facts)
        self.path = path


class AuthenticationError(APIError):
    """The API key is missing or wrong (401). Nothing was charged; correct the key."""

    remedy = "Check the API key (APIMART_API_KEY)"


class PaymentRequired(APIError):
    """The credit of the account or of the API key is used up (402). Top up the account and run the same again."""

    remedy = "Top up the account and run the same again; accepted jobs are not lost"


class PermissionDenied(APIError):
    """The API key is not allowed to do this (403)."""

    remedy = "Check what this API key is allowed to do"


class NotFound(APIError):
    """The server does not know the address or the id (404)."""

    remedy = "Check the base URL and the id"


class Conflict(APIError):
    """The server knows the idempotency key of the job from another request (409)."""

    remedy = "Check in your account whether the task exists before you resubmit the job"


class RateLimited(APIError):
    """The server received too many requests (429). ``retry_after`` is its Retry-After in seconds; None: not given."""

    remedy = "Wait, then try again"
    retry_after: float | None = None


class ServerError(APIError):
    """The server, or a gateway in front of it, failed (5xx)."""

    remedy = "Try again later"


class TransportError(OmniError):
    """The connection failed, or the response could not be read.

    ``sent`` is False only if it is certain that no byte of the request left this machine. ``permanent`` is True if
    waiting cannot help. For a request to the API: no response has arrived yet, and the user must fix the cause (an
    untrusted certificate, a proxy that refuses). For a clip, also: its link can never be fetched (another scheme than
    http, no valid host or port, control characters, a circle of redirects, a redirect from https to http, an address
    that is not public). Then ``sent`` is False too, for nothing was sent to where the clip should be. ``responded`` is
    True if a response began to arrive and is not readable as HTTP: the same request would get the same again.
    """

    def __init__(self, text: str, *, sent: bool = True, permanent: bool = False, responded: bool = False) -> None:
        super().__init__(text)
        self.sent = sent
        self.permanent = permanent
        self.responded = responded


class TransportTimeout(TransportError):
    """No usable response arrived in time."""


class SubmitWithheld(TransportError):
    """A submit was withheld directly before its first byte, because this process may no longer submit.

    Raised only where several processes share an account. Nothing was sent, and submissions stop here.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text, sent=False)


class JobError(OmniError):
    """Something about one job. ``key`` is the key of the job, ``task_id`` the id of its task, None until accepted."""

    def __init__(self, text: str, *, key: str = "", task_id: str | None = None) -> None:
        super().__init__(text)
        self.key = key
        self.task_id = task_id


class JobFailed(JobError):
    """The server accepted the job and then failed it. ``task`` is the last status response, None if there is none."""

    def __init__(self, text: str, *, key: str = "", task_id: str | None = None, task: Task | None = None) -> None:
        super().__init__(text, key=key, task_id=task_id)
        self.task = task


class JobTimedOut(JobError, TimeoutError):
    """The job did not finish in time. The server may still finish and bill it: ``attach`` or ``resume`` follows it."""


class JobCancelled(JobError):
    """The job was cancelled here. If it has a ``task_id``, the server still renders and bills it."""


class SubmitOutcomeUnknown(JobError):
    """It is unknown whether the server accepted (and billed) the job. Resubmitting it may pay for it twice."""


class ParentFailed(JobError):
    """The job that this one extends has no result. This one was not submitted."""


class KeyReused(JobError):
    """The key already names a job with another request. Nothing was submitted; use another key."""


class DownloadError(OmniError):
    """The task is finished and paid for, but its clip could not be stored. ``resume`` downloads it without paying.

    ``path`` is the file that could not be written, ``url`` the URL of the clip; a signed URL grants access to it.
    """

    def __init__(self, text: str, *, path: str = "", url: str = "") -> None:
        super().__init__(text)
        self.path = path
        self.url = url


class LedgerError(OmniError):
    """The ledger cannot be read or written. A job that cannot be recorded is not submitted.

    ``permanent`` is True if waiting will not help: the file is damaged, or someone has to change something.
    """

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


class LedgerLocked(LedgerError):
    """Another process is using this ledger. ``pid`` is its process id, None if unknown."""

    def __init__(self, text: str, *, pid: int | None = None) -> None:
        super().__init__(text)
        self.pid = pid


class LedgerFenced(LedgerError):
    """Another process has taken over this ledger: nothing more may be submitted or decided here.

    Raised by stores that several processes share, never by the ledger in a file. Always permanent.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text, permanent=True)


class CostLimitReached(OmniError):
    """The next job might exceed ``Limits(max_cost=)``, given what is paid and what is in progress."""


class ClientClosed(RuntimeError):
    """The client was closed, or was never opened. ``task_id`` is the task of the job, if any."""

    def __init__(self, text: str, *, key: str = "", task_id: str | None = None) -> None:
        super().__init__(text)
        self.key = key
        self.task_id = task_id


class UnknownModelWarning(UserWarning):
    """The rules of a model are unknown, so its fields are not checked. Warned once for each model."""


_BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequest,
    401: AuthenticationError,
    402: PaymentRequired,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}

# The `type` of the error objects that the API documents, for errors sent under a 200.
STATUS_BY_ERROR_TYPE: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "payment_required": 402,
    "permission_error": 403,
    "rate_limit_error": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "service_unavailable": 503,
}

# Gateways send a rate limit with these codes or types under other statuses than 429, too.
RATE_LIMIT_CODES: frozenset[str] = frozenset({"rate_limit_error", "rate_limit_exceeded", "too_many_requests"})


def error_class(status: int) -> type[APIError]:
    """Return the subclass of `APIError` for an HTTP status."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIError)


def with_prefix(prefix: str, error: _E) -> _E:
    """Return a copy of an error whose text begins with `prefix` and a colon; the error itself is unchanged."""
    named = copy(error)
    named.args = (one_line(f"{prefix}: {error}"), *error.args[1:])
    return named
