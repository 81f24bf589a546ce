"""What webhooks do to the plan of looks: a call brings one forward, and trust in calls puts the others off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ..jobs.lifecycle import JobStatus
from .webhook_reliability import Calls, Trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tracked_job import Watch
    from .webhook import Webhook


class Wakeups:
    """Finds the watch that a call is about; one that is on the agenda already gets its new place by a fresh copy."""

    def __init__(self, webhook: Webhook, plan: Callable[[Watch], None]) -> None:
        self.trust = Trust()
        self._webhook = webhook
        self._plan = plan
        self._watched: WeakValueDictionary[str, Watch] = WeakValueDictionary()  # by task_id

    def expect(self, watch: Watch) -> None:
        """Let a job be called for from now on; perhaps it has been already."""
        task_id, now = str(watch.job.task_id), asyncio.get_running_loop().time()
        if self._webhook.expects(watch.job._record):
            watch.calls = Calls(is_expected=True)
        watch.eased = self.trust.ease
        self._watched[task_id] = watch
        if self.trust.has_heard_of(task_id):
            watch.calls = watch.calls or Calls(is_expected=False)
            watch.calls.come(now)

    def hint(self, task_id: str) -> None:
        """Look at a task soon, because somebody says that it has ended; an unknown one costs nothing."""
        now = asyncio.get_running_loop().time()
        watch = self._watched.get(task_id)
        if watch is None or watch.job.status is not JobStatus.RUNNING:
            self.trust.heard(task_id, now)
            return
        watch.calls = watch.calls or Calls(is_expected=False)
        if watch.calls.come(now) and not watch.is_asked:
            fresh = self._watched[task_id] = watch.renewed()
            self._plan(fresh)

    def see_unfinished(self, watch: Watch) -> None:
        """Take note of a look that has found a job unfinished."""
        watch.eased = self.trust.ease
        if watch.calls is not None:
            watch.calls.unfinished()

    def ease(self, watch: Watch) -> float:
        """Give how many times its cost an ordinary look at this job is thought to have.

        No look is put off any more once trust has grown: hooks that come are seen at once, those that are lost only
        by a look, so trust would grow on what has come alone (measured with every second hook lost and all jobs begun
        together: 52 s late in place of 2). Where trust has fallen, it comes forward.
        """
        is_expected = watch.calls is not None and watch.calls.is_expected
        return min(watch.eased, self.trust.ease) if is_expected else 1.0
