"""What the API returns: tasks, their videos, balances and usage."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .amounts import CREDITS_PER_USD


class TaskState(Enum):
    """What the status string of a task means."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Video:
    """One finished video: its URL, and when that expires (unix seconds). None: the server did not say."""

    url: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task, from one status response of the server. A field that the server left out is None or empty.

    - ``id``: the id of the task.
    - ``status``: the server's own status string, in lower case; ``state``: what it means.
    - ``progress``: percent, 0 to 100.
    - ``created``, ``completed``: unix seconds.
    - ``estimated_time``, ``actual_time``: how long the server expects the task to take, and how long it took, in
      seconds.
    - ``cost``: USD; ``credits_cost``: credits, ten to a USD. Figures that cannot be true (negative, not finite, beyond
      any price) count as left out; ``ignored_figures`` quotes them.
    - ``videos``: the finished videos.
    - ``error``, ``error_code``, ``error_type``: the fields of the server's error object, of a failed task.
    """

    id: str
    status: str
    state: TaskState
    progress: float | None = None
    created: float | None = None
    completed: float | None = None
    estimated_time: float | None = None
    actual_time: float | None = None
    cost: float | None = None
    credits_cost: float | None = None
    ignored_figures: str = ""
    videos: tuple[Video, ...] = ()
    error: str = ""
    error_code: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an API key or account has left, in the unit of the account (mostly USD). None: the server did not say.

    ``unlimited`` is True if the server does not limit the key; the amounts then mean nothing.
    """

    remaining: float | None = None
    used: float | None = None
    remaining_credits: float | None = None
    used_credits: float | None = None
    unlimited: bool = False

    @property
    def remaining_usd(self) -> float | None:
        """What is left in USD, if the amounts are in USD; None if that is unlimited or unknown."""
        if self.unlimited:
            return None
        return self.remaining if self.remaining_credits is None else self.remaining_credits / CREDITS_PER_USD


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageItem:
    """What the server has billed for one model on one day ("2026-11-29").

    ``cost``: USD; ``credits``: credits, ten to a USD; ``requests``: tasks that were billed. Failed and refunded tasks
    are in none of them.
    """

    day: str
    model: str
    cost: float
    credits: float
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the server has billed in a period, for each model and day, and its own total of that.

    A task is billed when it ends. The last minute may be incomplete.
    """

    items: tuple[UsageItem, ...]
    cost: float
    requests: int
