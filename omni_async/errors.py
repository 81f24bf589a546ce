"""Every error a user may meet, each class chosen by what the reader can do about it.

::

    OmniError
     +- APIError                 the server answered no          .status .code .type .message .request_id
     |   +- InvalidRequest       400 413 422: change the request
     |   |   +- InvalidReference     a local file cannot be sent (also a ValueError)   .path
     |   +- AuthenticationError  401: check the API key
     |   +- PaymentRequired      402: top up the account, then run again
     |   +- PermissionDenied     403: this key may not do that
     |   +- NotFound             404: wrong address, or an id the server does not know
     |   +- Conflict             409: the idempotency key stands for something else
     |   +- RateLimited          429: wait                        .retry_after
     |   +- ServerError          5xx: the server is in trouble
     +- TransportError           no usable answer                 .sent .permanent
     |   +- TransportTimeout
     +- JobError                 the job itself                   .key .task_id
     |   +- JobFailed            the server gave the job up       .task
     |   +- JobTimedOut           it may still finish (also a TimeoutError)
     |   +- JobCancelled         given up here
     |   +- SubmitOutcomeUnknown        nobody can know whether the server took it
     |   +- ParentFailed         the job it extends has no result
     |   +- KeyReused            this key already names another request
     +- DownloadError            finished and paid, but the clip is not on disk   .path .url
     +- LedgerError              the record of jobs cannot be kept
     |   +- LedgerLocked         another process owns it         .pid
     +- CostLimitReached         `Limits(max_cost=)`: one more clip might pass it
    ClientClosed(RuntimeError)   you misused me: open a client with ``async with``
    UnknownModelWarning(UserWarning)   no error: a model without rules here; given once for each id

All of them survive pickling: what they carry are plain attributes.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from .models.responses import Task


_E = TypeVar("_E", bound="OmniError")


class OmniError(Exception):
    """Whatever goes wrong with the work itself; catch this to catch everything below."""


class APIError(OmniError):
    """The server answered, and the answer was no.

    ``status`` is the HTTP status (or the one the body names under a 200), ``code`` and ``type`` are the server's
    words for it, ``message`` is its sentence, and ``request_id`` is what its support asks for.
    """

    remedy: ClassVar[str] = ""

    def __init__(
        self,
        text: str,
        *,
        status: int = 0,
        code: str = "",
        type: str = "",  # noqa: A002 - the server's own word for the field
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
    """The request itself is at fault (400, 413, 422, or a 500 that names a parameter): change it."""


class InvalidReference(InvalidRequest, ValueError):
    """A local file that a request refers to is missing, or is none that can be sent. Nothing was sent, or paid."""

    def __init__(self, text: str, *, path: str = "", **facts: Any) -> None:
        super().__init__(text, **facts)
        self.path = path


class AuthenticationError(APIError):
    """The API key is missing or wrong (401)."""

    remedy = "Check the API key (APIMART_API_KEY)"


class PaymentRequired(APIError):
    """The account's credit is used up (402): top it up and run the same thing again."""

    remedy = "Top up the account, then run the same again; what was accepted is not lost"


class PermissionDenied(APIError):
    """This key may not do that (403)."""


class NotFound(APIError):
    """The server does not know this address or id (404)."""

    remedy = "Check the base URL and the id"


class Conflict(APIError):
    """The idempotency key stands for something else (409)."""


class RateLimited(APIError):
    """Too much at once, or too fast (429). ``retry_after`` is the server's advice in seconds, if it gave any."""

    retry_after: float | None = None


class ServerError(APIError):
    """The server, or a gateway before it, is in trouble (5xx)."""


class TransportError(OmniError):
    """No usable answer came. ``sent`` is False only where it is certain that no byte of the request left.

    ``permanent`` says that waiting will not help: no answer has ever come this way, and a person has to mend it (a
    certificate that is not trusted, a proxy that refuses).
    """

    def __init__(self, text: str, *, sent: bool = True, permanent: bool = False) -> None:
        super().__init__(text)
        self.sent = sent
        self.permanent = permanent


class TransportTimeout(TransportError):
    """No usable answer came in time."""


class JobError(OmniError):
    """Something about one job: ``key`` is our name for it, ``task_id`` the server's (None until accepted)."""

    def __init__(self, text: str, *, key: str = "", task_id: str | None = None) -> None:
        super().__init__(text)
        self.key = key
        self.task_id = task_id


class JobFailed(JobError):
    """The server accepted the job and then gave it up. ``task`` is its last reply."""

    def __init__(self, text: str, *, key: str = "", task_id: str | None = None, task: Task | None = None) -> None:
        super().__init__(text, key=key, task_id=task_id)
        self.task = task


class JobTimedOut(JobError, TimeoutError):
    """The job was not seen to finish in time; the server may still be working on it."""


class JobCancelled(JobError):
    """The job was given up here. If it has a ``task_id``, the server still runs and bills it."""


class SubmitOutcomeUnknown(JobError):
    """The submit got no clear answer: the server may or may not have taken (and billed) it."""


class ParentFailed(JobError):
    """The job that this one extends has no result to extend. Nothing was sent."""


class KeyReused(JobError):
    """This key already names a job with another request. Nothing was sent."""


class DownloadError(OmniError):
    """The task is finished and paid, but its clip could not be stored at ``path``."""

    def __init__(self, text: str, *, path: str = "", url: str = "") -> None:
        super().__init__(text)
        self.path = path
        self.url = url


class LedgerError(OmniError):
    """The record of jobs cannot be read or written; what cannot be recorded is not bought."""


class LedgerLocked(LedgerError):
    """Another process owns this ledger; ``pid`` is its number, if it can be told."""

    def __init__(self, text: str, *, pid: int | None = None) -> None:
        super().__init__(text)
        self.pid = pid


class CostLimitReached(OmniError):
    """What is paid and what is on its way leave no room for one more clip under the ceiling that the user has set."""


class ClientClosed(RuntimeError):
    """The client is not open (any more). ``task_id`` names the server's task of the job in question, if any."""

    def __init__(self, text: str, *, key: str = "", task_id: str | None = None) -> None:
        super().__init__(text)
        self.key = key
        self.task_id = task_id


class UnknownModelWarning(UserWarning):
    """A model whose rules are not known here: what it takes is for the server to say. Given once for each id."""


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


STATUS_BY_ERROR_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "payment_required": 402,
    "permission_error": 403,
    "rate_limit_error": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "service_unavailable": 503,
}

# The words of gateways that refuse for now, also under statuses that say something else.
RATE_LIMIT_CODES = frozenset({"rate_limit_error", "rate_limit_exceeded", "too_many_requests"})


def error_class(status: int) -> type[APIError]:
    """The class of the tree above that stands for this HTTP status."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIError)


def with_prefix(prefix: str, error: _E) -> _E:
    """Give the same error with the one it is about named in front."""
    named = copy(error)
    named.args = (f"{prefix}: {error}", *error.args[1:])
    return named
