"""How reliable webhooks are, learned from the jobs that end; and how many checks the calls for one job may cause.

Theory of operation. A webhook call that arrives makes routine checks of its job unnecessary. A call that is lost leaves
its job finished and undetected. So with webhooks on, a routine check looks for "finished, and its call was lost": the
hazard of that is the ordinary hazard times the share of calls that are lost. By the square-root rule (see `durations`)
gaps then grow by ``1 / sqrt(share)``, as if a check cost ``1 / share`` times as much: the cost factor. The share is
learned from the jobs that end, found by a call or by a routine check without one. If no call ever arrives, the share
tends to one and checks keep their ordinary pace.

Figures in comments are from runs of 120 jobs of 110 s as in tests/polling/test_webhook_hints.py: checks per job and
mean seconds of detection delay. Without webhooks they are 7.3 and 7.3; if every call arrives, 4.4 and 0.15.
"""

from __future__ import annotations

from dataclasses import dataclass

# Weight of one imagined job with a call, and of one without: Jeffreys' prior for a share, which a few jobs outweigh.
# Before the first call the cost factor is 2 whatever the weight. With half the weight, every call arriving saves a
# little more (4.1 checks), but with every second call lost the delay is 4.2 s instead of 3.6 s; with double, 4.6 checks
# and 2.9 s.
_PRIOR = 0.5
# Share of the weight of earlier jobs that is kept with each further job: the last 1 / (1 - 0.97) = 33 jobs count. It
# decides how soon it is noticed that calls stop arriving: the delay is then 7.9 s, 5.7 s if 17 jobs count and 8.6 s if
# 67 do, and 5.8 s without webhooks. More save checks: 4.5, 4.4 and 4.3 if every call arrives.
_KEPT = 0.97
# Share of the weight of received calls that is kept with each lost one. Calls that stop arriving leave jobs undetected,
# calls that return cost a few checks too many: so one lost call counts more than one received. When calls stop
# arriving, the delay is 7.9 s; with 0.5 it is 5.1 s, with 0.85 8.5 s, and with 1.0, which is symmetric, 11.2 s. With
# every tenth call lost, the same values need 5.4, 5.6, 5.2 and 5.0 checks.
_KEPT_AFTER_LOSS = 0.7
# The lowest share of lost calls that is assumed. Gaps are then 1 / sqrt(0.01) = 10 times the ordinary ones, the limit
# that `Polling` documents. Half and double made no difference in runs of 120 and 400 jobs: it is only reached later.
_MIN_LOST_SHARE = 0.01
# Seconds within which a call may follow a routine check that found the job finished first, and still counts as
# received. The API calls right after the end of a task, but its first retry comes 10 s later and counts as lost.
_GRACE = 5.0
# Tasks found finished without a call that are remembered for `_GRACE`, and calls for tasks that are not tracked (a call
# may arrive before the response to its submit). Both only limit memory: 200 submits a second would be needed to
# exceed the first, and the second is a bound for forged calls.
_MAX_MISSING = 1000
_MAX_UNMATCHED = 256

# Seconds between two checks of one job that calls ask for. The gap doubles with each call that turned out to be false,
# up to 2**10 s: forged calls for a job that runs an hour cause 12 checks. Less would let them cause more.
_CALL_GAP = 1.0
_MAX_DOUBLINGS = 10


class WebhookReliability:
    """The share of webhook calls that are lost, learned from each job that ends. Times are of any one clock."""

    def __init__(self) -> None:
        self._received = self._lost = _PRIOR
        self._missing: dict[str, float] = {}  # by task_id: when it was found finished without a call, latest last
        self._unmatched: dict[str, None] = {}  # task ids of calls for tasks that are not tracked, latest last

    @property
    def cost_factor(self) -> float:
        """How many times the cost of an ordinary check to assume for a routine check of a job with a webhook."""
        total = self._received + self._lost
        return total / max(self._lost, _MIN_LOST_SHARE * total)

    def record_received(self) -> None:
        """Record a job whose end a call reported."""
        self._fade()
        self._received += 1

    def record_lost(self, task_id: str, now: float) -> None:
        """Record a job that was found finished although no call had arrived."""
        self._fade()
        self._received = _PRIOR + (self._received - _PRIOR) * _KEPT_AFTER_LOSS
        self._lost += 1
        self._missing[task_id] = now
        if len(self._missing) > _MAX_MISSING:
            del self._missing[next(iter(self._missing))]

    def record_unmatched(self, task_id: str, now: float) -> None:
        """Record a call for a task that is not tracked: no longer, because a check came first, or not yet."""
        found_at = self._missing.pop(task_id, None)
        if found_at is None:
            self._unmatched[task_id] = None
            if len(self._unmatched) > _MAX_UNMATCHED:
                del self._unmatched[next(iter(self._unmatched))]
        elif now - found_at <= _GRACE:
            self._lost = max(_PRIOR, self._lost - 1)
            self._received += 1

    def take_unmatched(self, task_id: str) -> bool:
        """Return whether a call arrived for a task before it was tracked, and forget that call."""
        return self._unmatched.pop(task_id, self) is None

    def _fade(self) -> None:
        """Reduce the weight of earlier jobs; the prior keeps its own."""
        self._received = _PRIOR + (self._received - _PRIOR) * _KEPT
        self._lost = _PRIOR + (self._lost - _PRIOR) * _KEPT


@dataclass(slots=True)
class WebhookCalls:
    """What webhook calls have said about one job.

    Duplicate and forged calls cost one check a second at most, soon fewer.
    """

    is_expected: bool  # the submit named our URL, and no call for the job was false so far
    is_reported: bool = False  # a call said that the job has ended, and no check has disproved it yet
    is_check_due: bool = False  # ... and the check that it asks for has not begun
    is_checking_call: bool = False  # the latest check was caused by a call
    false_calls: int = 0
    checked_at: float = float("-inf")  # when the latest check caused by a call began
    due_at: float = 0.0  # when the check that is due may begin

    def record_call(self, now: float) -> bool:
        """Record a call. Return whether a check has become due by it."""
        if self.is_check_due:
            return False
        self.is_reported = self.is_check_due = True
        self.due_at = max(now, self.checked_at + _CALL_GAP * 2.0 ** min(self.false_calls, _MAX_DOUBLINGS))
        return True

    def record_check(self, now: float) -> None:
        """Record that a check begins. A call from now on asks for another one."""
        self.is_checking_call = self.is_check_due
        if self.is_check_due:
            self.is_check_due = False
            self.checked_at = now

    def record_unfinished(self) -> None:
        """Record that the latest check found the job unfinished: the call that caused it was false."""
        if self.is_checking_call or (self.is_reported and not self.is_check_due):
            self.false_calls += 1
            self.is_expected = False  # nothing shows that a genuine call is still to come
            self.is_reported = self.is_check_due
