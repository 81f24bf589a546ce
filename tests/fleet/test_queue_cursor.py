"""The queue of submits is read so that no row keeps another from its turn. Without a database."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from omni_async.fleet.queue_cursor import BEGINNING, QueueCursor

PAGE = 4  # rows that are read at a time
TICK = 0.25


@dataclass
class Queue:
    """The rows that wait, in order, and those of them that cannot be submitted. The reader always has room."""

    blocked: set[int] = field(default_factory=set)
    rows: set[int] = field(default_factory=set)
    cursor: QueueCursor = field(default_factory=QueueCursor)
    now: float = 0.0
    reads: int = 0

    def read(self) -> None:
        """Read once, and take up what can be submitted."""
        self.cursor.begin(self.now)
        after = self.cursor.position
        found = [(0, number) for number in sorted(self.rows) if (0, number) > after][:PAGE]
        taken = {number for _, number in found} - self.blocked
        self.rows -= taken
        self.cursor.on_read(found[-1] if found else None, is_end=len(found) < PAGE, has_found=bool(taken))
        self.now += TICK
        self.reads += 1


ROWS = st.sets(st.integers(1, 300), max_size=200)


@given(ROWS, ROWS, st.lists(st.tuples(st.integers(0, 300), ROWS), max_size=5))
def test_whatever_can_be_submitted_is_taken_up(
    rows: set[int], blocked: set[int], steps: list[tuple[int, set[int]]]
) -> None:
    """Rows may come before those that were read, and between those that cannot be submitted."""
    queue = Queue(blocked, set(rows))
    for ticks, added in steps:
        for _ in range(ticks):
            queue.read()
        queue.rows |= added
    for _ in range(int(200 / TICK)):  # at most two full passes, a minute apart
        queue.read()
    assert not queue.rows - blocked
    assert queue.cursor.is_complete


@given(st.integers(0, 3), st.integers(100, 600))
def test_rows_that_cannot_be_submitted_cost_the_others_little(number: int, many: int) -> None:
    """What is behind them is taken up page after page: one of twenty reads is spent at the beginning."""
    queue = Queue(set(range(1, many)), set(range(1, many + 400)))
    while len(queue.rows) > many + number:
        queue.read()
    assert queue.reads <= (many + 400) / PAGE * 21 / 20 + 2


def test_a_pass_tells_whether_something_could_be_submitted() -> None:
    """At its end nothing was found where every row is such that it cannot be submitted, and again after a minute."""
    queue = Queue({1, 2, 3, 4, 5}, {1, 2, 3, 4, 5})
    queue.read()
    assert not queue.cursor.is_complete
    queue.read()
    assert (queue.cursor.is_complete, queue.cursor.has_found) == (True, False)
    queue.rows.add(6)
    for _ in range(24):
        queue.read()
    assert (queue.cursor.is_complete, queue.cursor.has_found) == (True, True)
    for _ in range(260):
        queue.read()
    assert (queue.cursor.is_complete, queue.cursor.has_found) == (True, False)


def test_reading_begins_before_every_row() -> None:
    """Also before those of the highest priority."""
    assert BEGINNING < (-(2**31) + 1, 1)
