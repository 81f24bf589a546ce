"""What was asked and paid, as assertions whose messages name prompts, tasks and keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class PaidTask(NamedTuple):
    """One task that a server has taken."""

    task_id: str
    prompt: str
    idempotency_key: str | None
    is_not_downloaded: bool  # finished, and nobody came for its clip


class PaymentAssertions(ABC):
    """Whoever keeps a book of what was bought can be asked whether that was right."""

    @abstractmethod
    def paid_tasks(self) -> list[PaidTask]:
        """Give the tasks that were bought, in this order."""

    @property
    def prompts(self) -> list[str]:
        """The prompts of the tasks that were bought, in this order."""
        return [task.prompt for task in self.paid_tasks()]

    def assert_paid_once(self) -> None:
        """Fail if one job was bought more than once: two tasks of one idempotency key."""
        __tracebackhide__ = True
        by_key: dict[str, list[PaidTask]] = {}
        for task in self.paid_tasks():
            by_key.setdefault(task.idempotency_key or task.task_id, []).append(task)
        twice = [
            f"  {tasks[0].prompt!r} was bought {len(tasks)} times (Idempotency-Key {key}): "
            + ", ".join(task.task_id for task in tasks)
            for key, tasks in by_key.items()
            if len(tasks) > 1
        ]
        if twice:
            raise AssertionError("\n".join([f"{len(twice)} job(s) were paid more than once:", *twice]))

    def assert_paid_for(self, prompts: Iterable[str]) -> None:
        """Fail unless exactly these prompts were bought, in any order, each as often as it is named."""
        __tracebackhide__ = True
        wanted, bought = sorted(prompts), sorted(self.prompts)
        told = [f"  not bought: {prompt!r}" for prompt in _without(wanted, bought)]
        told += [f"  bought, but not expected: {prompt!r}" for prompt in _without(bought, wanted)]
        if told:
            raise AssertionError("\n".join([f"{len(bought)} task(s) were bought, {len(wanted)} expected:", *told]))

    def assert_downloaded(self) -> None:
        """Fail if a task was finished, and nobody came for its clip."""
        __tracebackhide__ = True
        left = [f"  {task.prompt!r} ({task.task_id})" for task in self.paid_tasks() if task.is_not_downloaded]
        if left:
            raise AssertionError("\n".join([f"{len(left)} clip(s) were paid, and nobody fetched them:", *left]))


def _without(some: list[str], others: list[str]) -> list[str]:
    """Give what is left of a list when each of the others has taken away one that is equal."""
    left = list(some)
    for other in others:
        if other in left:
            left.remove(other)
    return left
