"""What the server's bytes mean: every reply shape known, read with tolerance, and its errors put into classes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ..errors import RATE_LIMIT_CODES, STATUS_BY_ERROR_TYPE, APIError, RateLimited, error_class
from ..models.responses import Balance, Task, TaskState, Video
from .json_values import as_bool as _is_yes
from .json_values import as_number as _number
from .json_values import as_percent as _progress
from .json_values import as_text as _text
from .json_values import as_timestamp as _time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_FINISHED_WORDS = frozenset({"completed", "succeeded", "success", "finished", "done"})
_FAILED_WORDS = frozenset({"failed", "failure", "error", "cancelled", "canceled", "expired", "timeout", "rejected"})

_TASK_ID = re.compile(r"task[_-][\w-]+")
_REQUEST_ID = re.compile(r"request id: ([^)\s]+)")
_HTML_TAGS = re.compile(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer of the server: HTTP status, headers with names in lower case, and the whole body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def encode_json(body: Mapping[str, Any]) -> bytes:
    """Give the bytes of a request body."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse_task_id(response: Response) -> str | None:
    """Give the id of the task that this reply to a submit accepts; None if it names none."""
    content = _json_object(response)
    if content is None:
        return None
    data = content.get("data")
    if isinstance(data, str) and _TASK_ID.fullmatch(data):
        return data
    is_no = _reports_error(content) or not 200 <= response.status < 300
    for item in _objects_in(data):
        if found := _text(item.get("task_id")):
            return found
        if (found := _text(item.get("id"))) and (not is_no or _TASK_ID.fullmatch(found)):
            return found  # a refusal may name an account or a request by "id"
    if is_no:
        return None
    has_status = isinstance(content.get("status"), str)
    return _text(content.get("task_id")) or (_text(content.get("id")) if has_status else "") or None


def parse_task(response: Response, task_id: str) -> Task | None:
    """Read a status reply; None where it holds no task: an error, or nothing that can be read."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300:
        return None
    inner = next(_objects_in(content.get("data")), None)
    if inner is None and "data" not in content:
        inner = content
    if inner is None:
        return None
    named = _text(inner.get("id")) or _text(inner.get("task_id"))
    if _TASK_ID.fullmatch(named) and named != task_id:
        return None  # another task's reply: what it shows is another job's clip
    if not named and (inner is content or _reports_error(content)):
        return None  # a gateway's {"status": "error"} must not pass for a failed task
    word = _text(inner.get("status")).lower()
    if not word or (not named and word in _FAILED_WORDS and not inner.get("error")):
        return None
    return _build_task(inner, task_id, word)


def _build_task(inner: Mapping[str, Any], task_id: str, status: str) -> Task:
    credits_cost = _number(inner.get("credits_cost"))
    cost = _number(inner.get("cost"))
    if cost is None and credits_cost is not None:
        cost = credits_cost / 10  # ten credits are one USD
    message, code, kind = _error_fields(inner)
    return Task(
        id=task_id,
        status=status,
        state=TaskState.DONE
        if status in _FINISHED_WORDS
        else TaskState.FAILED
        if status in _FAILED_WORDS
        else TaskState.RUNNING,
        progress=_progress(inner.get("progress")),
        created=_time(inner.get("created")),
        completed=_time(inner.get("completed")),
        estimated_time=_number(inner.get("estimated_time")),
        actual_time=_number(inner.get("actual_time")),
        cost=cost,
        credits_cost=credits_cost,
        videos=_parse_videos(inner.get("result")),
        error=message,
        error_code=code,
        error_type=kind,
    )


def parse_balance(response: Response) -> Balance | None:
    """Read a balance reply; None where it holds none."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300 or _reports_error(content):
        return None
    inner = next(_objects_in(content.get("data")), content)
    remaining, credits_left = _number(inner.get("remain_balance")), _number(inner.get("remain_credits"))
    if remaining is None and credits_left is None and not _is_yes(inner.get("unlimited_quota")):
        return None
    return Balance(
        remaining=remaining,
        used=_number(inner.get("used_balance")),
        remaining_credits=credits_left,
        used_credits=_number(inner.get("used_credits")),
        unlimited=_is_yes(inner.get("unlimited_quota")) or -1 in (remaining, credits_left),
    )


def parse_models(response: Response) -> list[str] | None:
    """Read the ids of a list of models; None where the reply holds no list."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300 or not isinstance(content.get("data"), list):
        return None
    return [name for item in _objects_in(content["data"]) if (name := _text(item.get("id")))]


def parse_schema(response: Response) -> dict[str, Any] | None:
    """Read what the server says of a model, as it says it; None where the reply holds nothing of the kind."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300 or _reports_error(content):
        return None
    return next(_objects_in(content.get("data")), content)


def parse_upload(response: Response) -> str | None:
    """Read where an uploaded file can be fetched; None where the reply does not say."""
    content = _json_object(response)
    if content is None or not 200 <= response.status < 300:
        return None
    inner = next(_objects_in(content.get("data")), content)
    return _text(inner.get("url")) or None


def parse_error(response: Response, *, now: float, operation: str) -> APIError:
    """Put a reply that is not what was asked for into the error class for it; `now` is in unix seconds."""
    content = _json_object(response) or {}
    message, code, kind = _error_fields(content)
    message = message or _excerpt(response.body) or "(no message)"
    status = _effective_status(response, content, code, kind)
    family = error_class(status)
    where = f" ({code})" if code and code != str(status) else ""
    remedy = f". {family.remedy}" if family.remedy else ""
    error = family(
        f"{operation}: HTTP {status}{where}: {message}{remedy}",
        status=status,
        code=code,
        type=kind,
        message=message,
        request_id=_request_id(response, content, message),
    )
    if isinstance(error, RateLimited):
        error.retry_after = parse_retry_after(response, now)
    return error


def parse_retry_after(response: Response, now: float) -> float | None:
    """Give how many seconds the server asks to wait: `Retry-After` as seconds or as an HTTP date; None if senseless."""
    text = response.headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is None and (then := _parse_http_date(text)) is not None:
        # The server's own clock, where it shows it: ours may be wrong.
        here = _parse_http_date(response.headers.get("date", ""))
        seconds = then - (now if here is None else here)
    return seconds if seconds is not None and seconds >= 0 else None


def _parse_http_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # HTTP knows no other zone
    except (TypeError, ValueError, OverflowError):
        return None


def is_not_json(response: Response) -> bool:
    """Tell whether an answer is a page for people, as gateways and other servers send it, and no word of the API."""
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
    """Tell whether a body under any HTTP status speaks of an error."""
    code = _number(content.get("code"))
    return bool(content.get("error")) or content.get("success") is False or (code is not None and code >= 300)


def _effective_status(response: Response, content: Mapping[str, Any], code: str, kind: str) -> int:
    """Give the HTTP status; under a 2xx, the one that the body names by number or by word."""
    is_success = 200 <= response.status < 300
    if (is_success or response.status in {400, 403}) and {code, kind} & RATE_LIMIT_CODES:
        return 429
    if not is_success:
        return response.status
    for number in (_number(content.get("code")), _number(code)):
        if number is not None and 400 <= number < 600:
            return int(number)
    return STATUS_BY_ERROR_TYPE.get(kind) or STATUS_BY_ERROR_TYPE.get(code) or response.status


def _error_fields(content: Mapping[str, Any]) -> tuple[str, str, str]:
    """Give message, code and type of an error object, in whichever of its shapes."""
    error = content.get("error")
    if isinstance(error, str):
        return _text(error), _text(content.get("code")), _text(content.get("type"))
    inner = error if isinstance(error, dict) else content
    message = _text(inner.get("message")) or _text(content.get("message")) or _text(inner.get("fail_reason"))
    return message, _text(inner.get("code")), _text(inner.get("type"))


def _request_id(response: Response, content: Mapping[str, Any], message: str) -> str:
    named = _text(content.get("request_id"))
    for name in ("x-oneapi-request-id", "x-request-id"):
        named = named or response.headers.get(name, "")
    found = None if named else _REQUEST_ID.search(message)
    return found.group(1) if found else named


def _excerpt(body: bytes) -> str:
    text = _HTML_TAGS.sub(" ", body[:4096].decode("utf-8", "replace"))
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _parse_videos(result: object) -> tuple[Video, ...]:
    found: dict[str, Video] = {}
    for item in _video_items(result):
        expires = _time(item.get("expires_at"))
        urls = item.get("url") or item.get("video_url")
        for url in urls if isinstance(urls, list) else [urls]:
            if isinstance(url, str) and (link := _text(url)):
                found.setdefault(link, Video(link, expires))
    return tuple(found.values())


def _video_items(result: object) -> Iterator[Mapping[str, Any]]:
    for holder in _objects_in(result):
        videos = holder.get("videos") or holder.get("video") or holder
        for item in videos if isinstance(videos, list) else [videos]:
            if isinstance(item, dict):
                yield item
            elif isinstance(item, str):
                yield {"url": item, "expires_at": holder.get("expires_at")}
