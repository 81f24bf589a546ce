"""`StoragePause`: a worker that cannot keep clips leaves them to others for a while. Pure."""

from __future__ import annotations

# Seconds in which a worker takes no task because it could not keep a clip: twice as many each time, up to the longest
# pause. It fails sooner than others succeed, so without a pause one full disk would take the tasks of all workers until
# they have failed for good. At half, it takes more of them; at double, it is idle for longer when there is space again.
# Chosen, not measured.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0


class StoragePause:
    """Whether a worker may take a task. After a pause it takes a single one, to see whether it can keep clips again.

    Times are seconds of any clock.
    """

    def __init__(self) -> None:
        self.is_failing: bool = False  # the last clip could not be kept
        self._is_trying = False
        self._seconds = FIRST_PAUSE
        self._ends_at = float("-inf")

    def take(self, now: float) -> bool:
        """Return whether a task may be taken now."""
        if now < self._ends_at or self._is_trying:
            return False
        self._is_trying = self.is_failing
        return True

    def on_ended(self) -> None:
        """Record that a task has ended, or that there was none."""
        self._is_trying = False

    def on_failed(self, now: float) -> None:
        """Record that a clip could not be kept. What was begun before a pause makes it no longer."""
        self.is_failing = True
        if now >= self._ends_at:
            self._ends_at = now + self._seconds
            self._seconds = min(2 * self._seconds, LONGEST_PAUSE)

    def on_kept(self) -> None:
        """Record that a clip was kept."""
        self.is_failing = self._is_trying = False
        self._seconds, self._ends_at = FIRST_PAUSE, float("-inf")
