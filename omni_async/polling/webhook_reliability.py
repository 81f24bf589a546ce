"""How far webhooks are to be trusted, and what one call may bring about.

Theory of operation. A hook that comes makes a routine check needless; one that is lost leaves its job finished and
unnoticed. So with hooks on, what routine checks look for is not "finished" but "finished, and the hook was lost": its
hazard is the ordinary one times the share of hooks that are lost. By the square-root rule (see `durations`) gaps then
grow by ``1 / sqrt(share)``, as if a check cost ``1 / share`` times as much. The share is learnt from the jobs that end:
those found by a hook, and those found by a routine check without one. With no hook ever coming it tends to one, and
checks to their ordinary pace.
"""

from __future__ import annotations

from dataclasses import dataclass

_PRIOR = 0.5  # of an imagined clip with a hook, and of one without: Jeffreys' prior, which is soon outvoted
_KEPT = 0.97  # of the weight of earlier clips is left after one more: the latest thirty count
_SHAKEN = 0.7  # of the weight of hooks that came is left after one that did not: rather a check too many than late
_LEAST = 0.01  # share of lost hooks; nothing is thought surer, so checks are ten times rarer at most
_GRACE = 5.0  # seconds within which a hook may follow the check that was quicker
_REMEMBERED = 1000  # tasks that were found without a hook, which may still come
_UNMATCHED = 256  # tasks that were called for and that nobody follows: a hook may be quicker than the submit's answer

_GAP = 1.0  # seconds between two checks of one job that hooks ask for; doubles with each that showed nothing
_MOST_DOUBLINGS = 10


class WebhookReliability:
    """Learns from each job that ends what share of the hooks is lost. Times are of any one clock."""

    def __init__(self) -> None:
        self._received = self._lost = _PRIOR
        self._missing: dict[str, float] = {}  # when a task was found finished without its hook, latest last
        self._unmatched: dict[str, None] = {}  # latest last

    @property
    def cost_factor(self) -> float:
        """How many times the cost of an ordinary check a routine check of a job with a hook is thought to have."""
        return (self._received + self._lost) / max(self._lost, _LEAST * (self._received + self._lost))

    def record_received(self) -> None:
        """Take note of a job whose end its hook has told."""
        self._fade()
        self._received += 1

    def record_lost(self, task_id: str, now: float) -> None:
        """Take note of a job that was found finished, though no hook had come."""
        self._fade()
        self._received = _PRIOR + (self._received - _PRIOR) * _SHAKEN
        self._lost += 1
        self._missing[task_id] = now
        if len(self._missing) > _REMEMBERED:
            del self._missing[next(iter(self._missing))]

    def record_unmatched(self, task_id: str, now: float) -> None:
        """Take note of a hook for a task that nobody follows: no more, because a check was quicker, or not yet."""
        since = self._missing.pop(task_id, None)
        if since is None:
            self._unmatched[task_id] = None
            if len(self._unmatched) > _UNMATCHED:
                del self._unmatched[next(iter(self._unmatched))]
        elif now - since <= _GRACE:
            self._lost = max(_PRIOR, self._lost - 1)
            self._received += 1

    def take_unmatched(self, task_id: str) -> bool:
        """Tell, once, whether a hook has come for this task before anybody followed it."""
        return self._unmatched.pop(task_id, self) is None

    def _fade(self) -> None:
        """Let what was learnt count less, so that a change is followed; what was imagined keeps its weight."""
        self._received = _PRIOR + (self._received - _PRIOR) * _KEPT
        self._lost = _PRIOR + (self._lost - _PRIOR) * _KEPT


@dataclass(slots=True)
class WebhookCalls:
    """What hooks have said about one job. Duplicates and forgeries cost at most one check a second, soon fewer."""

    is_expected: bool  # its submit named our address, and no call for it has been in vain
    is_reported: bool = False  # one has come, and no look has disproved it yet
    is_check_due: bool = False  # ... and the look that it asks for has not begun
    is_checking_call: bool = False  # the latest look was for a call
    false_calls: int = 0
    checked_at: float = float("-inf")
    due_at: float = 0.0  # when the look that is due may begin

    def record_call(self, now: float) -> bool:
        """Take in a call; True if it is news, and a look is due for it."""
        if self.is_check_due:
            return False
        self.is_reported = self.is_check_due = True
        self.due_at = max(now, self.checked_at + _GAP * 2.0 ** min(self.false_calls, _MOST_DOUBLINGS))
        return True

    def record_check(self, now: float) -> None:
        """Take note that a look begins; a call from now on asks for another."""
        self.is_checking_call = self.is_check_due
        if self.is_check_due:
            self.is_check_due = False
            self.checked_at = now

    def record_unfinished(self) -> None:
        """Take in a look that found the job unfinished: whoever called, it was not worth waiting for."""
        if self.is_checking_call or (self.is_reported and not self.is_check_due):
            self.false_calls += 1
            self.is_expected = False
            self.is_reported = self.is_check_due
