"""Turn a response that is not what was asked for into an error with the server's words. Nothing here raises."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ..errors import RATE_LIMIT_CODES, STATUS_BY_ERROR_TYPE, APIError, NotFound, RateLimited, error_class
from ..plain_text import one_line
from .json_values import MAX_ID, as_number, as_text
from .parsing import is_not_json, json_object
from .redaction import redact_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .parsing import Response


_REQUEST_ID = re.compile(r"request id: ([^)\s]+)")
_MAX_TEXT = 2000  # characters of a message: what a server sends is also logged, stored and shown
_MESSAGE_FIELDS = ("message", "msg", "error_message", "fail_reason", "detail")
_RETRY_AFTER_FIELDS = ("retry_after", "retryAfter", "retry-after", "retry_after_seconds")
_EXCERPT_SOURCE = 8192  # bytes of a body that are looked at for an excerpt of 200 characters
_HTML_TAGS = re.compile(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def parse_error(
    response: Response,
    *,
    now: float,
    operation: str,
    is_lookup: bool = False,
    redact: Callable[[str], str] | None = None,
) -> APIError:
    """Return the error that a response stands for, with the server's message and with what to do.

    `operation` begins the text of the error, "submit" for example. `now` is the wall-clock time in unix seconds, for a
    Retry-After that is a date. `redact` removes the API key, by default with `Response.redact`. An error whose fields
    are compared with words of the API must be made without it, because the key may be such a word. `is_lookup` is a
    request for one object by its id: where that is refused as invalid, there is no such object.
    """
    redact = redact or response.redact
    content = json_object(response) or {}
    _, sent_code, sent_type = error_fields(content)
    status = _effective_status(response, content, sent_code, sent_type)
    cls = NotFound if is_lookup and status == 400 else error_class(status)
    shown = redact_texts(content, redact)
    message, code, error_type = error_fields(shown)
    request_id = _request_id(response, shown, message, redact)
    if 300 <= status < 400:
        message = redact(_redirect_message(response))
    message = message or _excerpt(response, redact) or "(no message)"
    shown_code = f" ({code})" if code and code != str(status) else ""
    cut_short = _cut_short(response)
    separator = " " if message.endswith((".", "!", "?", "。")) and not cut_short else ". "
    error = cls(
        f"{operation}: HTTP {status}{shown_code}: {message}{cut_short}{separator}{_remedy(response, cls, status)}",
        status=status,
        code=code,
        type=error_type,
        message=message,
        request_id=request_id,
    )
    if isinstance(error, RateLimited):
        error.retry_after = parse_retry_after(response, now)
    return error


def _remedy(response: Response, cls: type[APIError], status: int) -> str:
    """Return what to do about an error."""
    if 300 <= status < 400:
        base = _without_secrets(response.headers.get("location", "")).partition("/v1/")
        known = f": {response.redact(one_line(base[0]))}" if base[0] and base[1] else ""
        return f"If that is the right server, set it as the base URL{known} (base_url=, --base-url, APIMART_BASE_URL)"
    if status in {401, 403} and is_not_json(response):
        return f"A proxy or gateway on the way may have said so, not the API: check them first. {cls.remedy}"
    return "Try again" if response.cut_short and status < 300 else cls.remedy


def _redirect_message(response: Response) -> str:
    location = one_line(_without_secrets(response.headers.get("location", "").strip()))
    return f"it redirects to {location}" if location else "it redirects without saying where to"


def _without_secrets(url: str) -> str:
    """Return the start of a URL without user, password and query."""
    return re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", url)[0])[:200]


def unreadable_error(response: Response, *, operation: str) -> APIError:
    """Return the error for a response to a submit that shows neither a task nor a refusal. It quotes what came."""
    redact = response.redact
    content = redact_texts(json_object(response) or {}, redact)
    message, code, error_type = error_fields(content)
    came = (_excerpt(response, redact) or "an empty body") + _cut_short(response)
    return APIError(
        f"{operation}: HTTP {response.status}: the response names no task_id where one is expected: {came}",
        status=response.status,
        code=code,
        type=error_type,
        message=message,
        request_id=_request_id(response, content, message, redact),
    )


def _cut_short(response: Response) -> str:
    """Return why a response is not complete, to be appended to what was received; "" if it is."""
    return f" (the response is not complete: {_prose(response.cut_short, limit=200)})" if response.cut_short else ""


def parse_retry_after(response: Response, now: float) -> float | None:
    """Return for how many seconds the server asks to wait; None if it does not say, or if the time is in the past.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, 10.2.3). Without the header, a `retry_after` in the
    body counts. `now` is the wall-clock time in unix seconds.
    """
    text = response.headers.get("retry-after", "").strip()
    seconds = as_number(text)
    if seconds is None and (date := _parse_http_date(text)) is not None:
        # Measured by the server's own clock if it sends one, because this machine's may be wrong.
        server_now = _parse_http_date(response.headers.get("date", ""))
        seconds = date - (now if server_now is None else server_now)
    if seconds is None:
        seconds = _retry_after_in_body(json_object(response) or {})
    return seconds if seconds is not None and seconds >= 0 else None


def _retry_after_in_body(content: Mapping[str, Any]) -> float | None:
    """Return the seconds that a body asks to wait, as a number or as a text such as "12" or "12s"."""
    for holder in (content, content.get("error"), content.get("data")):
        for name in _RETRY_AFTER_FIELDS:
            value = holder.get(name) if isinstance(holder, dict) else None
            seconds = as_number(value.strip().removesuffix("s") if isinstance(value, str) else value)
            if seconds is not None:
                return seconds
    return None


def _parse_http_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # HTTP dates are UTC
    except (TypeError, ValueError, OverflowError):
        return None


def _effective_status(response: Response, content: Mapping[str, Any], code: str, error_type: str) -> int:
    """Return the HTTP status, or the one that the body of a 2xx names by number, code or type."""
    is_success = 200 <= response.status < 300
    if (is_success or response.status in {400, 403}) and {code, error_type} & RATE_LIMIT_CODES:
        return 429
    if not is_success:
        return response.status
    for number in (as_number(content.get("code")), as_number(code)):
        if number is not None and 400 <= number < 600:
            return int(number)
    return STATUS_BY_ERROR_TYPE.get(error_type) or STATUS_BY_ERROR_TYPE.get(code) or response.status


def error_fields(content: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return message, code and type of an error object, in any of its known shapes, and none of them too long."""
    error = content.get("error")
    inner = error if isinstance(error, dict) else content
    texts = (as_text(holder.get(name)) for holder in (inner, content) for name in _MESSAGE_FIELDS)
    message = as_text(error) if isinstance(error, str) else next(filter(None, texts), "")
    code, error_type = (one_line(as_text(inner.get(name)), limit=MAX_ID) for name in ("code", "type"))
    return _prose(message, limit=_MAX_TEXT), code, error_type


def _request_id(response: Response, content: Mapping[str, Any], message: str, redact: Callable[[str], str]) -> str:
    """Return the request id, from the body, from a header, or from the message of the error."""
    request_id = as_text(content.get("request_id"))
    for name in ("x-oneapi-request-id", "x-request-id"):
        request_id = request_id or redact(response.headers.get(name, ""))
    match = None if request_id else _REQUEST_ID.search(message)
    return one_line(match.group(1) if match else request_id, limit=MAX_ID)


def _excerpt(response: Response, redact: Callable[[str], str]) -> str:
    """Return the start of a body for a message, without HTML tags, scripts, line breaks and the API key."""
    # The key is removed before anything is cut off, so that no part of it is left at the cut.
    text = redact(response.body[:_EXCERPT_SOURCE].decode("utf-8", "replace"))[: _EXCERPT_SOURCE // 2]
    return _prose(_HTML_TAGS.sub(" ", text), limit=200)


def _prose(text: str, *, limit: int) -> str:
    """Return the server's words for a message, without line breaks and gaps, after which they could pass for ours."""
    return one_line(" ".join(text[: 4 * limit].split()), limit=limit)
