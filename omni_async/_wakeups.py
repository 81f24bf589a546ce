"""What webhooks do to the plan of looks: a call brings one forward, and trust in calls puts the others off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ._core.lifecycle import JobStatus
from ._core.trust import Calls, Trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core.record import JobRecord
    from ._watch import Watch
    from ._webhook import Webhook


class Wakeups:
    """Finds the watch that a call is about; one that is on the agenda already gets its new place by a fresh copy."""

    def __init__(
        self, webhook: Webhook, *, schedule: Callable[[Watch, float], None], gap: Callable[[Watch], float]
    ) -> None:
        self.trust = Trust()
        self._webhook = webhook
        self._schedule = schedule
        self._gap = gap
        self._watched: WeakValueDictionary[str, Watch] = WeakValueDictionary()  # by task_id

    def calls_for(self, record: JobRecord) -> Calls | None:
        """Give what will be known of the calls for a job; None where none is expected."""
        return Calls(is_expected=True) if self._webhook.expects(record) else None

    def ease(self, watch: Watch) -> float:
        """Give how many times its cost an ordinary look at this job is thought to have."""
        return self.trust.ease if watch.calls is not None and watch.calls.is_expected else 1.0

    def await_call(self, watch: Watch) -> None:
        """Let a job be called for from now on; perhaps it has been already."""
        task_id = str(watch.job.task_id)
        self._watched[task_id] = watch
        if self.trust.has_heard_of(task_id):
            self.hint(task_id)

    def hint(self, task_id: str) -> None:
        """Look at a task soon, because somebody says that it has ended; an unknown one costs nothing."""
        now = asyncio.get_running_loop().time()
        watch = self._watched.get(task_id)
        if watch is None or watch.job.status is not JobStatus.RUNNING:
            self.trust.heard(task_id, now)
            return
        watch.calls = watch.calls or Calls(is_expected=False)
        if watch.calls.come() and not watch.is_asked and now + watch.calls.look_in(now) < watch.due:
            self._replace(watch, watch.due - now)

    def review(self) -> None:
        """Bring forward the looks that were put off for hooks, if these have stopped coming.

        Never the other way: hooks that come are seen at once, those that are lost only by a look that was planned
        before. To put such looks off as trust grows would let it grow on what has come alone (measured with every
        second hook lost and all jobs begun together: 52 s late in place of 2).
        """
        if not self.trust.has_fallen():
            return
        now = asyncio.get_running_loop().time()
        for watch in list(self._watched.values()):
            is_waiting = watch.job.status is JobStatus.RUNNING and not watch.is_asked
            if is_waiting and watch.calls is not None and now + (gap := self._gap(watch)) < watch.due:
                self._replace(watch, gap)

    def _replace(self, watch: Watch, gap: float) -> None:
        fresh = self._watched[str(watch.job.task_id)] = watch.renewed()
        self._schedule(fresh, gap)
