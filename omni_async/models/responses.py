"""What the API returns: tasks, their videos, and balances."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TaskState(Enum):
    """What a server's status word comes down to."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Video:
    """One finished video on the server: where it is, and until when (unix seconds; None: not said)."""

    url: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One reply about a task. Whatever the server left out is None; times are unix seconds, durations seconds.

    `status` is the server's own word in lower case, `state` what it comes down to. `cost` is in USD, `progress` in
    percent. `error`, `error_code` and `error_type` are the server's words about a failed task.
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
    videos: tuple[Video, ...] = ()
    error: str = ""
    error_code: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What is left to the API key or account, in the account's own unit (mostly USD); None: not said."""

    remaining: float | None = None
    used: float | None = None
    remaining_credits: float | None = None
    used_credits: float | None = None
    unlimited: bool = False
