"""What is due when: in order of time, or in order of worth where more is due than can be done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.due_queue import DueQueue


def queue(*entries: tuple[str, float], over: frozenset[str] = frozenset()) -> DueQueue[str]:
    """Give an queue with these items."""
    made: DueQueue[str] = DueQueue(over.__contains__)
    for name, due in entries:
        made.put(name, due)
    return made


def test_what_is_due_first_comes_first() -> None:
    """Without a worth, times decide."""
    made = queue(("c", 3.0), ("a", 1.0), ("b", 2.0))
    assert [made.pop(9.0, None) for _ in range(4)] == ["a", "b", "c", None]


def test_nothing_comes_before_its_time() -> None:
    """What is not due stays."""
    made = queue(("a", 5.0))
    assert made.next_due() == 5.0
    assert made.pop(4.9, None) is None
    assert made.pop(5.0, None) == "a"
    assert made.next_due() is None


def test_putting_tells_who_is_next() -> None:
    """Only an item before all others is worth waking somebody for."""
    made: DueQueue[str] = DueQueue(lambda _: False)
    assert made.put("a", 5.0)
    assert not made.put("b", 6.0)
    assert made.put("c", 4.0)


def test_worth_decides_among_what_is_due() -> None:
    """What is not due yet is not asked for its worth."""
    worth = {"a": 1.0, "b": 3.0, "c": 2.0, "later": 9.0}
    made = queue(("a", 1.0), ("b", 2.0), ("c", 3.0), ("later", 10.0))
    assert [made.pop(5.0, worth.__getitem__) for _ in range(4)] == ["b", "c", "a", None]


def test_what_is_over_is_never_given() -> None:
    """Items may come to an end while they wait, wherever they wait."""
    over: set[str] = set()
    made: DueQueue[str] = DueQueue(over.__contains__)
    for name in "abcd":
        made.put(name, 1.0)
    assert made.pop(2.0, ord_of) == "d"
    over |= {"c", "a"}
    assert made.next_due() == float("-inf")
    assert made.pop(2.0, ord_of) == "b"
    assert made.next_due() is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.booleans())
def test_everything_comes_just_once(dues: list[float], ranks: bool) -> None:
    """Whatever the order, nothing is lost or given twice."""
    made: DueQueue[int] = DueQueue(lambda _: False)
    for number, due in enumerate(dues):
        made.put(number, due)
    taken = [made.pop(100.0, float if ranks else None) for _ in dues]
    assert sorted(number for number in taken if number is not None) == list(range(len(dues)))
    assert made.pop(100.0, None) is None


def ord_of(name: str) -> float:
    """Later letters are worth more."""
    return float(ord(name))
