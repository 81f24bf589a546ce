"""Parse a response about a task: its status, its videos, its cost, and why it failed, in every shape that is known.

Used by `outcomes.classify_check` and by `OmniClient.task`. Nothing here raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models.responses import Task, TaskState, Video
from .error_parsing import error_fields
from .json_values import as_number, as_percent, as_text, as_timestamp
from .parsing import TASK_ID, json_object, objects_in, reports_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .parsing import Response


# Status strings, compared in lower case. Any other string means that the task is running.
_FINISHED_STATUSES = frozenset({"completed", "succeeded", "success", "finished", "done"})
_FAILED_STATUSES = frozenset({"failed", "failure", "error", "cancelled", "canceled", "expired", "timeout", "rejected"})


def parse_task(response: Response, task_id: str) -> Task | None:
    """Return the task of a status response; None if it shows none, or another task than `task_id`."""
    content = json_object(response)
    if content is None or not 200 <= response.status < 300:
        return None
    inner = next(objects_in(content.get("data")), None)
    if inner is None and "data" not in content:
        inner = content
    if inner is None:
        return None
    named = as_text(inner.get("id")) or as_text(inner.get("task_id"))
    # The response of another task shows another job's clip.
    if TASK_ID.fullmatch(named) and named != task_id:
        return None
    # A gateway's {"status": "error"} must not count as a failed task: its job would be given up although it is paid.
    if not named and (inner is content or reports_error(content)):
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
    message, code, error_type = error_fields(inner)
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
    for holder in objects_in(result):
        videos = holder.get("videos") or holder.get("video") or holder
        for item in videos if isinstance(videos, list) else [videos]:
            if isinstance(item, dict):
                yield item
            elif isinstance(item, str):
                yield {"url": item, "expires_at": holder.get("expires_at")}
