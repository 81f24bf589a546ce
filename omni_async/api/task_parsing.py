"""Parse a response about a task: its status, its videos, its cost, and why it failed, in every shape that is known.

Used by `outcomes.classify_check` and by `OmniClient.task`. Nothing here raises.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..models.amounts import CREDITS_PER_USD, plausible_credits, plausible_seconds, plausible_usd
from ..models.responses import Task, TaskState, Video
from .json_values import as_number, as_percent, as_text, as_timestamp
from .parsing import TASK_ID, complete_object, objects_in, reports_error
from .redaction import redact_texts
from .task_links import find_videos, looks_like_a_link
from .task_reasons import failure_reason, has_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .parsing import Response


# Status words, compared without case, spaces and punctuation: "Timed out" is "timed_out". What an unknown word means is
# decided by what else the response shows.
_RUNNING = frozenset(["submitted", "pending", "queued", "processing", "inprogress", "running"])
_FINISHED = frozenset(["completed", "complete", "succeeded", "succeed", "success", "finished", "finish", "done"])
_FAILED = frozenset(
    [
        "failed",
        "fail",
        "failure",
        "error",
        "cancelled",
        "canceled",
        "rejected",
        "expired",
        "timeout",
        "timedout",
        "aborted",
        "blocked",
        "terminated",
    ]
)
_NO_LETTERS = re.compile(r"[\W_]+")
_SHOWN = 40  # characters of an amount that cannot be true, in a warning
_AMOUNTS = {"cost": plausible_usd, "credits_cost": plausible_credits}  # with what reads each
_STATUS_FIELDS = ("status", "task_status", "state")


def parse_task(response: Response, task_id: str, requested: Iterable[str] = ()) -> Task | None:
    """Return the task of a status response; None if it shows none, or another task than `task_id`.

    `requested` are texts of the request, as far as they are known: a link that they contain is not a video of the task.
    """
    content = complete_object(response)  # half a task might be a finished one without its link
    if content is None or not 200 <= response.status < 300:
        return None
    inner = _task_object(content)
    names = _names(inner)
    is_named = task_id in names
    # The response of another task shows another job's clip.
    if not is_named and any(map(TASK_ID.fullmatch, names)):
        return None
    status = _status(inner)
    videos = _videos(inner, task_id, status, requested, response.base_url)
    has_link = any(looks_like_a_link(video.url) for video in videos)
    state = _task_state(status, has_link=has_link, has_error=has_error(inner))
    if not is_named and not _is_about_the_task(content, inner, status, state, has_link=has_link):
        return None
    return _build_task(task_id, inner, content, status=status, state=state, videos=videos, redact=response.redact)


def _names(holder: Mapping[str, Any]) -> list[str]:
    return [name for name in (as_text(holder.get("id")), as_text(holder.get("task_id"))) if name]


def _status(holder: Mapping[str, Any]) -> str:
    for name in _STATUS_FIELDS:
        if status := as_text(holder.get(name)):
            return status.lower()
    return ""


def _videos(
    inner: Mapping[str, Any], task_id: str, status: str, requested: Iterable[str], base_url: str
) -> tuple[Video, ...]:
    videos = find_videos(inner, task_id, requested=requested, base_url=base_url)
    if not videos and _word(status) in _FINISHED:  # where older gateways of this family put the link
        reason = {"result": inner.get("fail_reason")}
        return find_videos(reason, task_id, requested=requested, base_url=base_url)
    return videos


def _task_object(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object that describes the task: `data`, or the body itself if only that has the status."""
    inner = next(objects_in(content.get("data")), None)
    if inner is None:
        return content
    if _status(inner) or any(map(TASK_ID.fullmatch, _names(inner))):
        return inner
    is_around = any(map(TASK_ID.fullmatch, _names(content))) or _word(_status(content)) in _RUNNING | _FINISHED
    return content if is_around else inner


def _is_about_the_task(
    content: Mapping[str, Any], inner: Mapping[str, Any], status: str, state: TaskState, *, has_link: bool
) -> bool:
    """Return whether a response without the id of the task is nevertheless about it.

    A gateway's {"status": "error"} must not count as a failed task: its job would be given up although it is paid.
    """
    if reports_error(content):
        return False
    if has_link and state is TaskState.DONE:
        return True
    if inner is content:
        return _word(status) in _RUNNING and bool(_names(content))
    return bool(status) and (state is not TaskState.FAILED or has_error(inner))


def _build_task(
    task_id: str,
    inner: Mapping[str, Any],
    content: Mapping[str, Any],
    *,
    status: str,
    state: TaskState,
    videos: tuple[Video, ...],
    redact: Callable[[str], str],
) -> Task:
    credits_cost = plausible_credits(as_number(inner.get("credits_cost")))
    cost = plausible_usd(as_number(inner.get("cost")))
    if cost is None and credits_cost is not None:
        cost = credits_cost / CREDITS_PER_USD
    has_result = state is TaskState.RUNNING or (state is TaskState.DONE and bool(videos))
    message, code, error_type = "", "", ""
    if not has_result:
        message, code, error_type = failure_reason(redact_texts(inner, redact), redact_texts(content, redact))
    return Task(
        id=task_id,
        status=status if _word(status) in _RUNNING | _FINISHED | _FAILED else redact(status),
        state=state,
        progress=as_percent(inner.get("progress")),
        created=as_timestamp(inner.get("created")),
        completed=as_timestamp(inner.get("completed")),
        estimated_time=plausible_seconds(as_number(inner.get("estimated_time"))),
        actual_time=plausible_seconds(as_number(inner.get("actual_time"))),
        cost=cost,
        credits_cost=credits_cost,
        ignored_figures=_ignored_amounts(inner, redact),
        videos=videos,
        error=message,
        error_code=code,
        error_type=error_type,
    )


def _ignored_amounts(inner: Mapping[str, Any], redact: Callable[[str], str]) -> str:
    """Return the amounts that cannot be true, as they were sent: "cost: -1"."""
    wrong = [
        f"{name}: {redact(str(value)[:_SHOWN])}"
        for name, read in _AMOUNTS.items()
        if (value := inner.get(name)) not in (None, "") and read(as_number(value)) is None
    ]
    return ", ".join(wrong)


def _word(status: str) -> str:
    return _NO_LETTERS.sub("", status.lower())


def _task_state(status: str, *, has_link: bool, has_error: bool) -> TaskState:
    word = _word(status)
    if word in _RUNNING:
        return TaskState.RUNNING
    if word in _FINISHED:
        return TaskState.DONE
    if word in _FAILED:
        return TaskState.FAILED
    if has_link:
        return TaskState.DONE
    return TaskState.FAILED if has_error else TaskState.RUNNING
