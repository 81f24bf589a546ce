"""`QueueCursor`: where the queue of submits is read next. Pure; used by `JobFeed`."""

from __future__ import annotations

# What is before the first row: a row is known by the negative of its priority, and its id.
BEGINNING = (-(2**31), 0)
# Seconds after which the queue is read from its beginning again: for jobs of a higher priority, those that were
# enqueued by a slower transaction, and those that came back. More often reads more dead entries of the index.
RESCAN_INTERVAL = 5.0
# Seconds after which every row is read again, also behind rows that cannot be submitted. At half, such rows are read
# more often; at double, what came back between them waits longer. Chosen, not measured.
_FULL_INTERVAL = 60.0


class QueueCursor:
    """Where to read next. Reading starts over every few seconds, and continues where it was if that finds nothing.

    Any number of rows at the beginning may not be submittable now, because the server does not serve their model, for
    example. They must not hold up the rows after them.
    """

    def __init__(self) -> None:
        self.position: tuple[int, int] = BEGINNING  # of the last row that was read
        self.is_complete: bool = False  # every row was read since the last full pass began
        self.has_found: bool = False  # and one of them was taken up
        self._reached = BEGINNING  # where reading continues
        self._began_at = self._full_since = float("-inf")

    def begin(self, now: float) -> bool:
        """Return whether reading starts over now."""
        if now - self._began_at < RESCAN_INTERVAL:
            return False
        self._began_at = now
        self._reached = max(self._reached, self.position)
        if self._full_since == float("-inf") or (self.is_complete and now - self._full_since >= _FULL_INTERVAL):
            self._full_since, self._reached, self.is_complete, self.has_found = now, BEGINNING, False, False
        self.position = BEGINNING
        return True

    def on_read(self, last: tuple[int, int] | None, *, is_end: bool, has_found: bool) -> None:
        """Record that rows were read up to `last` (None: there was none), and whether a job of them was taken up."""
        self.has_found = self.has_found or has_found
        self.is_complete = self.is_complete or is_end
        if last is not None:
            self.position = last
        if not has_found:
            self.position = max(self.position, self._reached)
