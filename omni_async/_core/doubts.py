"""Jobs of which nobody knows whether the server has taken them: how often, and for how long, that has been so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from .retry import obey

if TYPE_CHECKING:
    from .settings import Retry

T = TypeVar("T")


@dataclass(slots=True)
class _Doubt:
    attempts: int = 0
    spent: float = 0.0  # seconds on POSTs without a clear answer and on rests; waiting at the gate does not count


class Doubts(Generic[T]):
    """Whoever is in here may hold a place on the server, and may be billed."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._doubts: dict[T, _Doubt] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._doubts

    def __len__(self) -> int:
        return len(self._doubts)

    def note(self, item: T) -> bool:
        """Take one in; False if it is in already."""
        return self._doubts.setdefault(item, doubt := _Doubt()) is doubt

    def rest(self, item: T, took: float, *, advice: float | None, dice: float) -> float | None:
        """Give the seconds to rest after a POST that took so long; None when the budget is used up."""
        doubt = self._doubts[item]
        doubt.spent += took
        if doubt.spent > self._retry.budget:
            return None
        pause = obey(advice, doubt.attempts, self._retry, dice)
        doubt.attempts += 1
        doubt.spent += pause
        return pause

    def forget(self, item: T) -> None:
        """Let one go: it has an outcome."""
        self._doubts.pop(item, None)
