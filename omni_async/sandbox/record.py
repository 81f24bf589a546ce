"""The record of what clients did to a sandbox: counts and lists that tests and benchmarks read.

It is `Sandbox.record`, and JSON under `GET /sandbox/record`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class TaskRecord:
    """One task as the server sees it. Times are Unix seconds, `seconds` is the clip's length, amounts are in USD."""

    task_id: str
    prompt: str
    idempotency_key: str | None
    body: dict[str, Any]
    created: float
    seconds: int
    price: float
    completed: float | None = None
    cost: float = 0.0
    status: str = "running"  # then completed or failed


@dataclass(slots=True)
class SandboxRecord:
    """Counts and lists, updated while a sandbox serves."""

    submits: int = 0  # POSTs received, including refused ones
    submit_times: list[float] = field(default_factory=list)  # Unix seconds
    accepted: int = 0
    replayed: int = 0  # submits answered with the task of an earlier one
    refused: Counter[int] = field(default_factory=Counter)  # submits by HTTP status
    checks: int = 0
    checks_by_task: Counter[str] = field(default_factory=Counter)
    checks_refused: Counter[int] = field(default_factory=Counter)  # by HTTP status
    downloads: int = 0
    downloads_by_task: Counter[str] = field(default_factory=Counter)
    range_requests: int = 0
    bytes_sent: int = 0  # of clips
    uploads: int = 0
    uploads_by_sha256: Counter[str] = field(default_factory=Counter)  # accepted uploads by content
    webhooks: list[tuple[str, str, int]] = field(default_factory=list)  # task id, URL, HTTP status (0: no response)
    in_flight: int = 0
    max_in_flight: int = 0
    leaked_keys: int = 0  # requests to the CDN that carried an Authorization header
    redirected_keys: int = 0  # those of them that had followed a redirect
    redirected_submits: int = 0  # submits that had followed a redirect
    faults: Counter[str] = field(default_factory=Counter)  # hits by name
    tasks: dict[str, TaskRecord] = field(default_factory=dict)

    @property
    def paid(self) -> float:
        """The amount billed in USD: completed and running tasks, but not failed ones."""
        return round(sum(task.price for task in self.tasks.values() if task.status != "failed"), 6)

    @property
    def duplicate_keys(self) -> dict[str, list[str]]:
        """The idempotency keys under which more than one task was created, with the ids of these tasks."""
        by_key: dict[str, list[str]] = {}
        for task in self.tasks.values():
            if task.idempotency_key is not None:
                by_key.setdefault(task.idempotency_key, []).append(task.task_id)
        return {key: ids for key, ids in by_key.items() if len(ids) > 1}

    @property
    def duplicates(self) -> int:
        """The number of tasks beyond the first of their idempotency key."""
        return sum(len(ids) - 1 for ids in self.duplicate_keys.values())

    def record_submit(self, now: float) -> None:
        """Count a submit that was received."""
        self.submits += 1
        self.submit_times.append(now)

    def record_task(self, task: TaskRecord) -> None:
        """Add a task that was accepted."""
        self.accepted += 1
        self.tasks[task.task_id] = task
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def record_end(self, task_id: str, status: str, now: float) -> None:
        """Record that a task completed or failed."""
        task = self.tasks[task_id]
        task.status, task.completed = status, now
        task.cost = task.price if status == "completed" else 0.0
        self.in_flight -= 1

    def record_check(self, task_id: str) -> None:
        """Count a status request."""
        self.checks += 1
        self.checks_by_task[task_id] += 1

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; the keys of counters become strings."""
        values = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        return values | {"paid": self.paid, "duplicates": self.duplicates, "duplicate_keys": self.duplicate_keys}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return asdict(value) if isinstance(value, TaskRecord) else value
