"""What clients did to a sandbox: counts and lists for tests to ask."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class TaskRecord:
    """One task as the server sees it. Times are unix seconds."""

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
    """Counts and lists, kept while a sandbox serves."""

    submits: int = 0
    submit_times: list[float] = field(default_factory=list)
    accepted: int = 0
    replayed: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    checks: int = 0
    checks_by_task: Counter[str] = field(default_factory=Counter)
    checks_refused: Counter[int] = field(default_factory=Counter)
    downloads: int = 0
    downloads_by_task: Counter[str] = field(default_factory=Counter)
    range_requests: int = 0
    bytes_sent: int = 0
    uploads: int = 0
    uploads_by_sha256: Counter[str] = field(default_factory=Counter)  # how often each was taken, by SHA-256
    webhooks: list[tuple[str, str, int]] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    leaked_keys: int = 0
    redirected_keys: int = 0
    redirected_submits: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)

    @property
    def paid(self) -> float:
        """Dollars billed: what completed and what still runs, not what failed."""
        return round(sum(task.price for task in self.tasks.values() if task.status != "failed"), 2)

    @property
    def duplicate_keys(self) -> dict[str, list[str]]:
        """Idempotency keys that more than one task came of, with these tasks."""
        by_key: dict[str, list[str]] = {}
        for task in self.tasks.values():
            if task.idempotency_key is not None:
                by_key.setdefault(task.idempotency_key, []).append(task.task_id)
        return {key: ids for key, ids in by_key.items() if len(ids) > 1}

    @property
    def duplicates(self) -> int:
        """Tasks too many: those beyond the first of their idempotency key."""
        return sum(len(ids) - 1 for ids in self.duplicate_keys.values())

    def record_submit(self, now: float) -> None:
        """A POST arrived."""
        self.submits += 1
        self.submit_times.append(now)

    def record_task(self, task: TaskRecord) -> None:
        """A task was accepted."""
        self.accepted += 1
        self.tasks[task.task_id] = task
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def record_end(self, task_id: str, status: str, now: float) -> None:
        """A task completed or failed."""
        task = self.tasks[task_id]
        task.status, task.completed = status, now
        task.cost = task.price if status == "completed" else 0.0
        self.in_flight -= 1

    def record_check(self, task_id: str) -> None:
        """Somebody asked how a task is."""
        self.checks += 1
        self.checks_by_task[task_id] += 1

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values (the keys of counts become texts)."""
        values = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        return values | {"paid": self.paid, "duplicates": self.duplicates, "duplicate_keys": self.duplicate_keys}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return asdict(value) if isinstance(value, TaskRecord) else value
