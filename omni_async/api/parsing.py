"""Parse the server's responses: tasks, balances, models, uploads and errors, in every shape that is known.

The parsers accept what APIMart documents and what its gateways have been seen to send, and never raise. A parser
returns None if the response does not hold what it looks for; `parse_error` then turns the response into an error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ..errors import RATE_LIMIT_CODES, STATUS_BY_ERROR_TYPE, APIError, RateLimited, error_class
from ..models.responses import Balance, Task, TaskState, Video
from .json_values import as_bool, as_number, as_percent, as_text, as_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# Status strings, compared in lower case. Any other string means that the task is running.
_FINISHED_STATUSES = frozenset({"completed", "succeeded", "success", "finished", "done"})
_FAILED_STATUSES = frozenset({"failed", "failure", "error", "cancelled", "canceled", "expired", "timeout", "rejected"})

_TASK_ID = re.compile(r"task[_-][\w-]+")
_REQUEST_ID = re.compile(r"request id: ([^)\s]+)")
_HTML_TAGS = re.compile(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response of the server: HTTP status, headers with names in lower case, and body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def encode_json(body: Mapping[str, Any]) -> bytes:
    """Return a request body as JSON in UTF-8. Raise `ValueError` for NaN and infinity, which JSON does not have."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse_task_id(response: Response) -> str | None:
    """Return the id of the task that this response to a submit accepts; None if it names none.

    A task id counts under any HTTP status: a task that was accepted is billed, even if a gateway then failed.
    """
    content = _json_object(response)
    if content is None:
        return None
    data = content.get("data")
    if isinstance(data, str) and _TASK_ID.fullmatch(data):
        return data
    is_error = _reports_error(content) or not 200 <= response.status < 300
    for item in _objects_in(data):
        if task_id := as_text(item.get("task_id")):
            return task_id
        # In a refusal, "id" may be the id of an account or of a request.
        if (task_id := as_text(item.get("id"))) and (not is_error or _TASK_ID.fullmatch(task_id)):
            return task_id
    if is_error:
        return None
    has_status = isinstance(content.get("status"), str)
    return as_text(content.get("task_id")) or (as_text(content.get("id")) if has_status else "") or None


def parse_task(response: Response, task_id: str) -> Task | None:
    """Return the task of a status response; None if it shows none, or another task than `task_id`."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300:
        return None
    inner = next(_objects_in(content.get("data")), None)
    if inner is None and "data" not in content:
        inner = content
    if inner is None:
        return None
    named = as_text(inner.get("id")) or as_text(inner.get("task_id"))
    # The response of another task shows another job's clip.
    if _TASK_ID.fullmatch(named) and named != task_id:
        return None
    # A gateway's {"status": "error"} must not count as a failed task: its job would be given up although it is paid.
    if not named and (inner is content or _reports_error(content)):
        return None
    status = as_text(inner.get("status")).lower()
    if not status or (not named and status in _FAILED_STATUSES and not inner.get("error")):
        return None
    return _build_task(inner, task_id, status)


def _build_task(inner: Mapping[str, Any], task_id: str, status: str) -> Task:
    credits_cost = as_number(inner.get("credits_cost"))
    cost = as_number(inner.get("cost"))
    if cost is None and credits_cost is not None:
        cost = credits_cost / 10  # ten credits are one USD
    message, code, error_type = _error_fields(inner)
    return Task(
        id=task_id,
        status=status,
        state=_task_state(status),
        progress=as_percent(inner.get("progress")),
        created=as_timestamp(inner.get("created")),
        completed=as_timestamp(inner.get("completed")),
        estimated_time=as_number(inner.get("estimated_time")),
        actual_time=as_number(inner.get("actual_time")),
        cost=cost,
        credits_cost=credits_cost,
        videos=_parse_videos(inner.get("result")),
        error=message,
        error_code=code,
        error_type=error_type,
    )


def _task_state(status: str) -> TaskState:
    if status in _FINISHED_STATUSES:
        return TaskState.DONE
    return TaskState.FAILED if status in _FAILED_STATUSES else TaskState.RUNNING


def parse_balance(response: Response) -> Balance | None:
    """Return the balance; None if the response holds none."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300 or _reports_error(content):
        return None
    inner = next(_objects_in(content.get("data")), content)
    remaining, credits_left = as_number(inner.get("remain_balance")), as_number(inner.get("remain_credits"))
    if remaining is None and credits_left is None and not as_bool(inner.get("unlimited_quota")):
        return None
    return Balance(
        remaining=remaining,
        used=as_number(inner.get("used_balance")),
        remaining_credits=credits_left,
        used_credits=as_number(inner.get("used_credits")),
        unlimited=as_bool(inner.get("unlimited_quota")) or -1 in (remaining, credits_left),
    )


def parse_models(response: Response) -> list[str] | None:
    """Return the ids of a list of models; None if the response holds no list."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300 or not isinstance(content.get("data"), list):
        return None
    return [name for item in _objects_in(content["data"]) if (name := as_text(item.get("id")))]


def parse_schema(response: Response) -> dict[str, Any] | None:
    """Return the schema of a model as the server sent it; None if the response holds none."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300 or _reports_error(content):
        return None
    return next(_objects_in(content.get("data")), content)


def parse_upload(response: Response) -> str | None:
    """Return the URL of an uploaded file; None if the response holds none."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300:
        return None
    inner = next(_objects_in(content.get("data")), content)
    return as_text(inner.get("url")) or None


def parse_error(response: Response, *, now: float, operation: str) -> APIError:
    """Return the error that a response stands for, with the server's message and with what to do.

    `operation` begins the text of the error, "submit" for example. `now` is the wall-clock time in unix seconds, for a
    Retry-After that is a date.
    """
    content = _json_object(response) or {}
    message, code, error_type = _error_fields(content)
    message = message or _excerpt(response.body) or "(no message)"
    status = _effective_status(response, content, code, error_type)
    cls = error_class(status)
    shown_code = f" ({code})" if code and code != str(status) else ""
    separator = " " if message.endswith((".", "!", "?", "。")) else ". "
    error = cls(
        f"{operation}: HTTP {status}{shown_code}: {message}{separator}{cls.remedy}",
        status=status,
        code=code,
        type=error_type,
        message=message,
        request_id=_request_id(response, content, message),
    )
    if isinstance(error, RateLimited):
        error.retry_after = parse_retry_after(response, now)
    return error


def parse_retry_after(response: Response, now: float) -> float | None:
    """Return for how many seconds the server asks to wait; None if it does not say, or if the time is in the past.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, 10.2.3). `now` is the wall-clock time in unix
    seconds.
    """
    text = response.headers.get("retry-after", "").strip()
    seconds = as_number(text)
    if seconds is None and (date := _parse_http_date(text)) is not None:
        # Measured by the server's own clock if it sends one, because this machine's may be wrong.
        server_now = _parse_http_date(response.headers.get("date", ""))
        seconds = date - (now if server_now is None else server_now)
    return seconds if seconds is not None and seconds >= 0 else None


def _parse_http_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # HTTP dates are UTC
    except (TypeError, ValueError, OverflowError):
        return None


def is_not_json(response: Response) -> bool:
    """Return whether a response has a body that is not a JSON object: the page of a gateway or of another server."""
    return bool(response.body.strip()) and _json_object(response) is None


def _json_object(response: Response) -> dict[str, Any] | None:
    try:
        content = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _objects_in(value: object) -> Iterator[dict[str, Any]]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _reports_error(content: Mapping[str, Any]) -> bool:
    """Return whether a body reports an error, whatever the HTTP status."""
    code = as_number(content.get("code"))
    return bool(content.get("error")) or content.get("success") is False or (code is not None and code >= 300)


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


def _error_fields(content: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return message, code and type of an error object, in any of its known shapes."""
    error = content.get("error")
    if isinstance(error, str):
        return as_text(error), as_text(content.get("code")), as_text(content.get("type"))
    inner = error if isinstance(error, dict) else content
    message = as_text(inner.get("message")) or as_text(content.get("message")) or as_text(inner.get("fail_reason"))
    return message, as_text(inner.get("code")), as_text(inner.get("type"))


def _request_id(response: Response, content: Mapping[str, Any], message: str) -> str:
    """Return the request id, from the body, from a header, or from the message of the error."""
    request_id = as_text(content.get("request_id"))
    for name in ("x-oneapi-request-id", "x-request-id"):
        request_id = request_id or response.headers.get(name, "")
    match = None if request_id else _REQUEST_ID.search(message)
    return match.group(1) if match else request_id


def _excerpt(body: bytes) -> str:
    """Return the start of a body for a message, without HTML tags, scripts and line breaks."""
    text = _HTML_TAGS.sub(" ", body[:4096].decode("utf-8", "replace"))
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _parse_videos(result: object) -> tuple[Video, ...]:
    videos: dict[str, Video] = {}  # by URL: a server may name one video in two places
    for item in _video_items(result):
        expires = as_timestamp(item.get("expires_at"))
        urls = item.get("url") or item.get("video_url")
        for url in urls if isinstance(urls, list) else [urls]:
            if isinstance(url, str) and (text := as_text(url)):
                videos.setdefault(text, Video(text, expires))
    return tuple(videos.values())


def _video_items(result: object) -> Iterator[Mapping[str, Any]]:
    for holder in _objects_in(result):
        videos = holder.get("videos") or holder.get("video") or holder
        for item in videos if isinstance(videos, list) else [videos]:
            if isinstance(item, dict):
                yield item
            elif isinstance(item, str):
                yield {"url": item, "expires_at": holder.get("expires_at")}
