"""The line: first come first served, and who comes back gets the old place."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omni_async.submission.queue import SubmitQueue


class _Thing:
    """Hashable, and without any order of its own, as jobs are."""


@dataclass(slots=True)
class _Standing:
    """Where a thing of the model is: in the line, resting until a time, or out."""

    place: int
    is_out: bool = False
    back_at: float | None = None
    thing: _Thing = field(default_factory=_Thing)


class _Life(RuleBasedStateMachine):
    """The line against a list that is searched from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.line: SubmitQueue[_Thing] = SubmitQueue()
        self.all: list[_Standing] = []

    def _there(self) -> list[_Standing]:
        return [one for one in self.all if not one.is_out and (one.back_at is None or one.back_at <= self.now)]

    def _out(self) -> list[_Standing]:
        return [one for one in self.all if one.is_out]

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def put(self) -> None:
        """Somebody new comes."""
        one = _Standing(len(self.all))
        self.all.append(one)
        self.line.put(one.thing)

    @precondition(lambda self: self._there())
    @rule()
    def take(self) -> None:
        """The first goes out."""
        first = min(self._there(), key=lambda one: one.place)
        assert self.line.peek(self.now) is first.thing
        assert self.line.pop() is first.thing
        first.is_out, first.back_at = True, None

    @precondition(lambda self: self._out())
    @rule(index=st.integers(0, 50))
    def come_back(self, index: int) -> None:
        """One comes back at once."""
        one = self._out()[index % len(self._out())]
        self.line.put(one.thing)
        one.is_out = False

    @precondition(lambda self: self._out())
    @rule(index=st.integers(0, 50), rest=st.floats(-1, 20))
    def rest(self, index: int, rest: float) -> None:
        """One comes back later."""
        one = self._out()[index % len(self._out())]
        one.is_out, one.back_at = False, self.now + rest
        self.line.put_later(one.thing, self.now + rest)

    @precondition(lambda self: self._out())
    @rule(index=st.integers(0, 50))
    def forget(self, index: int) -> None:
        """One leaves for good."""
        one = self._out()[index % len(self._out())]
        self.line.discard(one.thing)
        self.all = [other for other in self.all if other is not one]
        for place, other in enumerate(self.all):
            other.place = place

    @invariant()
    def the_first_is_the_one_with_the_oldest_place(self) -> None:
        """Whoever came first of those who are there is first, however often he was away."""
        there = self._there()
        first = min(there, key=lambda one: one.place).thing if there else None
        assert self.line.peek(self.now) is first

    @invariant()
    def the_next_return_is_known(self) -> None:
        """Nobody sleeps past the time when somebody comes back."""
        self.line.peek(self.now)
        resting = [one.back_at for one in self.all if one.back_at is not None and one.back_at > self.now]
        assert self.line.next_due() == (min(resting) if resting else None)


TestLife = _Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=30)
TestLife.__doc__ = "Whoever comes, goes, rests and returns, the order is that of the first coming."


def test_an_empty_line_has_nobody() -> None:
    """Nobody is first, and nobody is to return."""
    line: SubmitQueue[str] = SubmitQueue()
    assert line.peek(1e9) is None
    assert line.next_due() is None


def test_who_was_refused_is_first_again() -> None:
    """A refused job goes back to the head of the line."""
    line: SubmitQueue[str] = SubmitQueue()
    for name in "abc":
        line.put(name)
    line.peek(0)
    assert line.pop() == "a"
    line.put("a")
    assert line.peek(0) == "a"


def test_who_has_left_for_good_comes_last() -> None:
    """A place that was given up is not kept."""
    line: SubmitQueue[str] = SubmitQueue()
    for name in "ab":
        line.put(name)
    line.discard(line.pop())
    line.put("a")
    assert line.peek(0) == "b"


@pytest.mark.parametrize("how", ["put", "put_at"])
def test_who_was_out_when_the_line_was_cleared_may_come_back(how: str) -> None:
    """A slow answer may arrive after the line was stopped and opened again."""
    line: SubmitQueue[str] = SubmitQueue()
    line.put("a")
    line.pop()
    line.clear()
    if how == "put":
        line.put("a")
    else:
        line.put_later("a", 5.0)
    assert line.peek(5.0) == "a"


def test_a_cleared_line_is_empty() -> None:
    """Those who wait and those who rest are gone."""
    line: SubmitQueue[str] = SubmitQueue()
    line.put("a")
    line.put("b")
    line.pop()
    line.put_later("a", 5.0)
    line.clear()
    assert line.peek(9.0) is None
    assert line.next_due() is None


@pytest.mark.parametrize("number", [1, 3])
def test_the_favoured_go_before_all_others(number: int) -> None:
    """Whoever was favoured while out comes back before everybody, the last favoured first."""
    line: SubmitQueue[int] = SubmitQueue()
    for item in range(5):
        line.put(item)
    out = [line.pop() for _ in range(number)]
    for item in out:
        line.prioritize(item)
        line.put(item)
    assert line.peek(0) == out[-1]
