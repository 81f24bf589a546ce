"""Items come in order of time, or in order of priority if more is due than can be done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.due_queue import DueQueue


def queue(*entries: tuple[str, float], obsolete: frozenset[str] = frozenset()) -> DueQueue[str]:
    """Return a queue with these items."""
    items: DueQueue[str] = DueQueue(obsolete.__contains__)
    for name, due in entries:
        items.put(name, due)
    return items


def test_items_are_popped_in_order_of_time() -> None:
    """Without a priority, times decide."""
    items = queue(("c", 3.0), ("a", 1.0), ("b", 2.0))
    assert [items.pop(9.0, None) for _ in range(4)] == ["a", "b", "c", None]


def test_no_item_is_popped_before_it_is_due() -> None:
    """An item that is not due stays in the queue."""
    items = queue(("a", 5.0))
    assert items.next_due() == 5.0
    assert items.pop(4.9, None) is None
    assert items.pop(5.0, None) == "a"
    assert items.next_due() is None


def test_put_returns_whether_the_item_is_next() -> None:
    """Only an item that is due before all others need wake the poller."""
    items: DueQueue[str] = DueQueue(lambda _: False)
    assert items.put("a", 5.0)
    assert not items.put("b", 6.0)
    assert items.put("c", 4.0)


def test_the_priority_decides_among_due_items() -> None:
    """An item that is not due yet has no priority."""
    priority = {"a": 1.0, "b": 3.0, "c": 2.0, "later": 9.0}
    items = queue(("a", 1.0), ("b", 2.0), ("c", 3.0), ("later", 10.0))
    assert [items.pop(5.0, priority.__getitem__) for _ in range(4)] == ["b", "c", "a", None]


def test_obsolete_items_are_never_popped() -> None:
    """Items may become obsolete while they wait, at any place in the queue."""
    obsolete: set[str] = set()
    items: DueQueue[str] = DueQueue(obsolete.__contains__)
    for name in "abcd":
        items.put(name, 1.0)
    assert items.pop(2.0, ord_of) == "d"
    obsolete |= {"c", "a"}
    assert items.next_due() == float("-inf")
    assert items.pop(2.0, ord_of) == "b"
    assert items.next_due() is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.booleans())
def test_every_item_is_popped_exactly_once(dues: list[float], by_priority: bool) -> None:
    """In any order, nothing is lost or popped twice."""
    items: DueQueue[int] = DueQueue(lambda _: False)
    for number, due in enumerate(dues):
        items.put(number, due)
    popped = [items.pop(100.0, float if by_priority else None) for _ in dues]
    assert sorted(number for number in popped if number is not None) == list(range(len(dues)))
    assert items.pop(100.0, None) is None


def ord_of(name: str) -> float:
    """Return a higher priority for later letters."""
    return float(ord(name))
