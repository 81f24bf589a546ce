"""The submit queue is first in, first out, and a job that returns keeps its position."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omni_async.submission.queue import SubmitQueue


class _Item:
    """Hashable, and without an order of its own, as jobs are."""


@dataclass(slots=True)
class _Entry:
    """The state of an item in the model: queued, due later, or taken out."""

    position: int
    is_out: bool = False
    back_at: float | None = None
    item: _Item = field(default_factory=_Item)


class _QueueModel(RuleBasedStateMachine):
    """The queue against a list that is searched from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queue: SubmitQueue[_Item] = SubmitQueue()
        self.all: list[_Entry] = []

    def _queued(self) -> list[_Entry]:
        return [one for one in self.all if not one.is_out and (one.back_at is None or one.back_at <= self.now)]

    def _out(self) -> list[_Entry]:
        return [one for one in self.all if one.is_out]

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def put_new(self) -> None:
        """Add a new item."""
        one = _Entry(len(self.all))
        self.all.append(one)
        self.queue.put(one.item)

    @precondition(lambda self: self._queued())
    @rule()
    def pop_first(self) -> None:
        """Take the first item out."""
        first = min(self._queued(), key=lambda one: one.position)
        assert self.queue.peek(self.now) is first.item
        assert self.queue.pop() is first.item
        first.is_out, first.back_at = True, None

    @precondition(lambda self: self._out())
    @rule(index=st.integers(0, 50))
    def put_back(self, index: int) -> None:
        """Return an item immediately."""
        one = self._out()[index % len(self._out())]
        self.queue.put(one.item)
        one.is_out = False

    @precondition(lambda self: self._out())
    @rule(index=st.integers(0, 50), delay=st.floats(-1, 20))
    def put_back_later(self, index: int, delay: float) -> None:
        """Return an item later."""
        one = self._out()[index % len(self._out())]
        one.is_out, one.back_at = False, self.now + delay
        self.queue.put_later(one.item, self.now + delay)

    @precondition(lambda self: self._out())
    @rule(index=st.integers(0, 50))
    def discard_one(self, index: int) -> None:
        """Remove an item permanently."""
        one = self._out()[index % len(self._out())]
        self.queue.discard(one.item)
        self.all = [other for other in self.all if other is not one]
        for position, other in enumerate(self.all):
            other.position = position

    @invariant()
    def the_oldest_available_item_is_first(self) -> None:
        """Assert that an item keeps the position of its first put, however often it was out."""
        queued = self._queued()
        first = min(queued, key=lambda one: one.position).item if queued else None
        assert self.queue.peek(self.now) is first

    @invariant()
    def next_due_is_the_earliest_return(self) -> None:
        """`next_due` is the time of the next return."""
        self.queue.peek(self.now)
        due = [one.back_at for one in self.all if one.back_at is not None and one.back_at > self.now]
        assert self.queue.next_due() == (min(due) if due else None)


TestOrder = _QueueModel.TestCase
TestOrder.settings = settings(stateful_step_count=30)
TestOrder.__doc__ = "The order is that of the first put, whatever is taken out, returned or delayed."


def test_an_empty_queue_has_no_first_item() -> None:
    """Nothing is due either."""
    queue: SubmitQueue[str] = SubmitQueue()
    assert queue.peek(1e9) is None
    assert queue.next_due() is None


def test_a_returned_item_is_first_again() -> None:
    """A refused job goes back to the head of the queue."""
    queue: SubmitQueue[str] = SubmitQueue()
    for name in "abc":
        queue.put(name)
    queue.peek(0)
    assert queue.pop() == "a"
    queue.put("a")
    assert queue.peek(0) == "a"


def test_a_discarded_item_loses_its_position() -> None:
    """If it is put again, it is last."""
    queue: SubmitQueue[str] = SubmitQueue()
    for name in "ab":
        queue.put(name)
    queue.discard(queue.pop())
    queue.put("a")
    assert queue.peek(0) == "b"


@pytest.mark.parametrize("how", ["put_new", "put_later"])
def test_an_item_can_return_after_clear(how: str) -> None:
    """A slow response may arrive after the queue was cleared."""
    queue: SubmitQueue[str] = SubmitQueue()
    queue.put("a")
    queue.pop()
    queue.clear()
    if how == "put_new":
        queue.put("a")
    else:
        queue.put_later("a", 5.0)
    assert queue.peek(5.0) == "a"


def test_a_cleared_queue_is_empty() -> None:
    """Neither queued items nor those due later remain."""
    queue: SubmitQueue[str] = SubmitQueue()
    queue.put("a")
    queue.put("b")
    queue.pop()
    queue.put_later("a", 5.0)
    queue.clear()
    assert queue.peek(9.0) is None
    assert queue.next_due() is None


@pytest.mark.parametrize("number", [1, 3])
def test_a_prioritized_item_is_first(number: int) -> None:
    """An item that is prioritized while it is out returns before all others, the latest one first."""
    queue: SubmitQueue[int] = SubmitQueue()
    for item in range(5):
        queue.put(item)
    out = [queue.pop() for _ in range(number)]
    for item in out:
        queue.prioritize(item)
        queue.put(item)
    assert queue.peek(0) == out[-1]
