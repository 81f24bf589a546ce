"""What a check answers about a task."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import SandboxSettings
    from .tasks import Task


OPTIONAL = ("progress", "cost", "credits_cost", "completed", "actual_time", "estimated_time", "created")
ODD_WORDS = ("rendering", "warming_up", "queued_for_review", "post-processing")


class TaskSerializer:
    """Writes the status of tasks as the documentation shows it; a field is there only when it says so."""

    def __init__(self, settings: SandboxSettings, link: Callable[[Task, int, str | None], tuple[str, float]]) -> None:
        self._settings, self._link = settings, link
        self._estimate = max(1, math.ceil(1.5 * settings.median / settings.speed))

    def status(self, task: Task, now: float) -> str:
        """Its status word at a time of the loop's clock."""
        if task.status == "running":
            return "pending" if task.elapsed_share(now) < 0.1 else "processing"
        return task.status

    def to_json(self, task: Task, now: float, fault: str | None = None, host: str | None = None) -> dict[str, Any]:
        """The task object, as told to a client that calls the sandbox by the name of `host`."""
        view: dict[str, Any] = {
            "id": task.task_id,
            "status": self._word(task, now, fault),
            "created": int(task.created),
            "estimated_time": self._estimate,
        }
        if self._settings.progress != "none":
            view["progress"] = self._progress(task, now)
        if task.ended is not None:
            view["completed"] = int(task.ended)
            view["actual_time"] = max(1, round(task.ended - task.created))
            view["cost"] = 0 if task.error else task.price
            view["credits_cost"] = 0 if task.error else task.credits
        if task.error:
            view["error"] = task.error
        elif task.status == "completed" and fault != "no_link" and "never_link" not in task.faults:
            view["result"] = {"videos": self._videos(task, host)}
        return self._quirks(view, task)

    def _progress(self, task: Task, now: float) -> int:
        if task.status == "completed":
            return 100
        share = task.elapsed_share(now) if self._settings.progress == "true" else (now - task.started) / self._estimate
        return min(99, int(100 * share))

    def _word(self, task: Task, now: float, fault: str | None) -> str:
        word = self.status(task, now)
        if fault == "unknown_status" and task.status == "running":
            return ODD_WORDS[int(task.created) % len(ODD_WORDS)]
        if fault == "upper_status":
            return word.upper() if task.status == "completed" else word.capitalize()
        return word

    def _videos(self, task: Task, host: str | None) -> list[dict[str, Any]]:
        links = [self._link(task, index, host) for index in range(len(task.clips))]
        if self._settings.url_shape == "string":
            return [{"url": url, "expires_at": int(until)} for url, until in links]
        if "two_videos" in task.faults and int(task.task_id[-1], 36) % 2:
            return [{"url": [url for url, _ in links], "expires_at": int(links[0][1])}]
        return [{"url": [url], "expires_at": int(until)} for url, until in links]

    def _quirks(self, view: dict[str, Any], task: Task) -> dict[str, Any]:
        if "missing_optionals" in task.faults:
            view = {name: value for name, value in view.items() if name not in OPTIONAL}
            for video in view.get("result", {}).get("videos", ()):
                video.pop("expires_at", None)
        return _as_strings(view) if "numbers_as_strings" in task.faults else view


def _as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_strings(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_strings(each) for each in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
