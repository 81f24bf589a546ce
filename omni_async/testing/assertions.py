"""Assertions about what was paid for. Their messages name prompts, task ids and Idempotency-Keys.

Base class of `MemoryServer` and `SandboxThread`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import PaidTask


class PaymentAssertions(ABC):
    """Assertions for a server that records the tasks it accepted and bills."""

    @abstractmethod
    def paid_tasks(self) -> list[PaidTask]:
        """Return the accepted tasks, in order of acceptance."""

    @abstractmethod
    def tasks_awaiting_download(self) -> list[PaidTask]:
        """Return the tasks that have a finished clip that no client has requested."""

    @property
    def prompts(self) -> list[str]:
        """The prompts of the accepted tasks, in order of acceptance."""
        return [task.prompt for task in self.paid_tasks()]

    def assert_paid_once(self) -> None:
        """Raise AssertionError if a job was paid for more than once: two tasks with the same Idempotency-Key."""
        __tracebackhide__ = True
        by_key: dict[str, list[PaidTask]] = {}
        for task in self.paid_tasks():
            by_key.setdefault(task.idempotency_key or task.task_id, []).append(task)
        duplicates = [
            f"  {tasks[0].prompt!r} was paid for {len(tasks)} times (Idempotency-Key {key}): "
            + ", ".join(task.task_id for task in tasks)
            for key, tasks in by_key.items()
            if len(tasks) > 1
        ]
        if duplicates:
            raise AssertionError("\n".join([f"{len(duplicates)} job(s) were paid for more than once:", *duplicates]))

    def assert_paid_for(self, prompts: Iterable[str]) -> None:
        """Raise AssertionError unless exactly these prompts were paid for, in any order.

        A prompt that is given twice must have been paid for twice.
        """
        __tracebackhide__ = True
        expected, paid = sorted(prompts), sorted(self.prompts)
        problems = [f"  not paid for: {prompt!r}" for prompt in _multiset_difference(expected, paid)]
        problems += [f"  paid for, but not expected: {prompt!r}" for prompt in _multiset_difference(paid, expected)]
        if problems:
            raise AssertionError(
                "\n".join([f"{len(paid)} task(s) were paid for, {len(expected)} expected:", *problems])
            )

    def assert_downloaded(self) -> None:
        """Raise AssertionError if a finished clip was never requested."""
        __tracebackhide__ = True
        missing = [f"  {task.prompt!r} ({task.task_id})" for task in self.tasks_awaiting_download()]
        if missing:
            raise AssertionError("\n".join([f"{len(missing)} clip(s) were paid for but never downloaded:", *missing]))


def _multiset_difference(items: list[str], removed: list[str]) -> list[str]:
    """Return the items without those in `removed`, where each removed one takes away one equal item."""
    rest = list(items)
    for item in removed:
        if item in rest:
            rest.remove(item)
    return rest
