"""What a server in memory has heard and taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class ReceivedSubmit:
    """One POST as the server saw it. Times are of the loop's clock."""

    at: float
    number: int  # counted from 1
    key: str
    body: dict[str, Any]
    task_id: str | None = None
    outcome: object = None


@dataclass
class MemoryTask:
    """One paid task."""

    task_id: str
    body: dict[str, Any]
    accepted_at: float
    ready_at: float
    fails: bool = False
    idempotency_key: str | None = None
