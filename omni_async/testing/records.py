"""What a test server received and accepted. Used by `MemoryServer`, `SandboxThread` and the payment assertions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class ReceivedSubmit:
    """One POST as the server received it.

    `at` is the time of its arrival, in seconds of the event loop's clock; `number` counts from 1; `key` is its
    Idempotency-Key. `task_id` is None until it is accepted. `outcome` is the response or exception it ended with.
    """

    at: float
    number: int
    key: str
    body: dict[str, Any]
    task_id: str | None = None
    outcome: object = None


@dataclass
class PaidTask:
    """A task that a server accepted and bills. A failed task is listed too, but its price is refunded.

    Times are seconds: of the event loop's clock in memory, unix time in a sandbox. `ready_at` is when the task ends:
    scheduled in memory, infinite in a sandbox until it has ended. `fails` is whether it ends without a clip.
    `is_downloaded` is whether a client has requested the clip.
    """

    task_id: str
    body: dict[str, Any]
    accepted_at: float
    ready_at: float = math.inf
    fails: bool = False
    idempotency_key: str | None = None
    is_downloaded: bool = False

    @property
    def prompt(self) -> str:
        """The prompt of the request; empty if it has none."""
        return str(self.body.get("prompt") or "")

    def awaits_download(self, now: float) -> bool:
        """Return whether the task has a finished clip at this time that no client has requested."""
        return not self.fails and self.ready_at <= now and not self.is_downloaded
