"""A task as the API shows it: the object that checks and webhooks carry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .translations import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import SandboxSettings
    from .tasks import Task


# The fields that `missing_optionals` leaves out.
OPTIONAL = ("progress", "cost", "credits_cost", "completed", "actual_time", "estimated_time", "created")
# Sent by `unknown_status`. None of them is in the documentation; a client must read each of them as "running".
UNKNOWN_STATUSES = ("rendering", "warming_up", "queued_for_review", "post-processing")
# The estimate over the median of the durations: the page's sample took 40 s and was estimated at 60 s.
ESTIMATE_RATIO = 1.5
# The share of its duration for which a task is "pending", before it is "processing". Clients treat both alike; the
# value only makes sure that both are seen. Chosen, not measured.
PENDING_SHARE = 0.1


class TaskSerializer:
    """Writes the status of tasks as the API page documents it, or as a fault changes it.

    `link` is called for each video of a completed task, with its index and the host of the request. It returns the URL
    and its expiry as Unix time.
    """

    def __init__(self, settings: SandboxSettings, link: Callable[[Task, int, str | None], tuple[str, float]]) -> None:
        self._settings, self._link = settings, link
        self._estimate = max(1, math.ceil(ESTIMATE_RATIO * settings.median / settings.speed))

    def to_json(
        self,
        task: Task,
        now: float,
        *,
        fault: str | None = None,
        host: str | None = None,
        language: object = None,
    ) -> dict[str, Any]:
        """Return the task object at a time of the loop's clock. `host` is the one that the client addressed.

        `language` is that of the message of its error.
        """
        fields: dict[str, Any] = {
            "id": task.task_id,
            "status": self._status(task, now, fault),
            "created": int(task.created),
            "estimated_time": self._estimate,
        }
        if self._settings.progress != "none":
            fields["progress"] = self._progress(task, now)
        if task.ended is not None:
            fields["completed"] = int(task.ended)
            fields["actual_time"] = max(1, round(task.ended - task.created))
            fields["cost"] = 0 if task.error else task.price
            fields["credits_cost"] = 0 if task.error else task.credits
        if task.error:
            fields["error"] = task.error | {"message": translate(task.error["message"], language)}
        elif task.status == "completed" and fault != "no_link" and "never_link" not in task.faults:
            fields["result"] = {"videos": self._videos(task, host)}
        return self._apply_task_faults(fields, task)

    def _progress(self, task: Task, now: float) -> int:
        if task.status == "completed":
            return 100
        is_true = self._settings.progress == "true"
        share = task.elapsed_share(now) if is_true else (now - task.started) / self._estimate
        return min(99, int(100 * share))

    def _status(self, task: Task, now: float, fault: str | None) -> str:
        if fault == "unknown_status" and task.status == "running":
            return UNKNOWN_STATUSES[int(task.created) % len(UNKNOWN_STATUSES)]
        status = task.status
        if status == "running":
            status = "pending" if task.elapsed_share(now) < PENDING_SHARE else "processing"
        if fault == "upper_status":
            return status.upper() if task.status == "completed" else status.capitalize()
        return status

    def _videos(self, task: Task, host: str | None) -> list[dict[str, Any]]:
        links = [self._link(task, index, host) for index in range(len(task.clips))]
        if self._settings.url_shape == "string":
            return [{"url": url, "expires_at": int(expires_at)} for url, expires_at in links]
        # Half of the tasks with two videos put both URLs into one item, the others into an item each.
        if "two_videos" in task.faults and int(task.task_id[-1], 36) % 2:
            return [{"url": [url for url, _ in links], "expires_at": int(links[0][1])}]
        return [{"url": [url], "expires_at": int(expires_at)} for url, expires_at in links]

    def _apply_task_faults(self, fields: dict[str, Any], task: Task) -> dict[str, Any]:
        if "missing_optionals" in task.faults:
            fields = {name: value for name, value in fields.items() if name not in OPTIONAL}
            for video in fields.get("result", {}).get("videos", ()):
                video.pop("expires_at", None)
        return _numbers_as_strings(fields) if "numbers_as_strings" in task.faults else fields


def _numbers_as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers_as_strings(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbers_as_strings(each) for each in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
