"""Follows every job in flight: one coroutine, one agenda of due times, and what each look makes of a job.

Theory of operation. A job being followed is a `Watch`. It is either on the agenda, or being looked at by a short-lived
asyncio task; never both. The coroutine starts the looks that are due, as its own gate and pace allow, and sleeps until
the next one. The agenda says when a job is to be thought about; whether it is to be looked at then, the cadence says
with all it knows at that moment. A look that shows nothing (an error page, a timeout, garbage) is a missed look and not
a failed job.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from aiolimiter import AsyncLimiter

from ._bell import Bell
from ._core import retry as rules
from ._core.agenda import Agenda
from ._core.cadence import Cadence
from ._core.catalog import DEFAULT_MODEL
from ._core.errors import JobFailed, JobOverdue, OmniError, TransportError, TransportTimeout, about
from ._core.gate import Gate, Permit
from ._core.lifecycle import JobStatus
from ._core.retry import Look, Sight
from ._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup

    from ._core.record import JobRecord
    from ._core.settings import Limits, Polling, Retry
    from ._core.wire import Reply
    from ._job import Job
    from ._ports import Transport
    from ._roster import Roster

WIDTH = 64  # status requests on the wire at once
PROBE_PATIENCE = 5.0  # seconds; while the one probe after a 429 is not answered, nobody is looked at
_THOUGHTS = 64  # jobs that are thought about in a row; then others have a turn in the event loop
_LINKLESS_LOOKS = 5  # how often a finished task without a link is looked at again

_log = logging.getLogger("omni_async.poller")


class Poller:
    """Asks the server about every job in flight, and passes on those that are finished."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        *,
        limits: Limits,
        retry: Retry,
        polling: Polling,
        landed: Callable[[Job], None],
        left: Callable[[], None],
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._roster = roster
        self._retry = retry
        self._polling = polling
        self._cadence = Cadence(polling)
        self._landed = landed
        self._left = left
        self._dice = dice
        self._gate = Gate(capacity=None, width=WIDTH, retry=retry)
        self._pace = AsyncLimiter(1, 1 / limits.checks_per_second) if limits.checks_per_second else None
        self._agenda: Agenda[Watch] = Agenda(lambda watch: watch.job.status is not JobStatus.RUNNING)
        self._bell = Bell()

    def learn(self, records: Iterable[JobRecord]) -> None:
        """Take in from earlier jobs how long the server takes."""
        for record in records:
            if record.took is not None:
                self._cadence.learn(_model(record), record.took)

    def follow(self, job: Job, *, age: float = 0.0, at_once: bool = False) -> None:
        """Follow a job that was accepted `age` seconds ago."""
        now = self._now()
        course = self._cadence.begin(_model(job._record), now - age, now, is_watched=not at_once)
        self._plan(Watch(job, now - age, course, is_late=age >= self._polling.timeout))

    async def run(self) -> None:
        """Start looks when they are due, for ever."""
        async with anyio.create_task_group() as group:
            while True:
                wait = self._next_thought_in()
                if wait != 0:
                    await self._bell.wait(wait)
                    continue
                if self._pace is not None:
                    await self._pace.acquire()
                if self._next_thought_in() != 0 or not self._start_look(group):
                    await anyio.lowlevel.checkpoint()

    # When

    def _plan(self, watch: Watch) -> None:
        """Put it on the agenda."""
        now = self._now()
        again = self._cadence.think_again_in(watch.course, now, followed=len(self._agenda))
        jitter = (1 + self._dice()) / 2  # else those that began together would be looked at together, again and again
        if self._agenda.put(watch, min(self._due(watch), now + again * jitter)):
            self._bell.ring()

    def _due(self, watch: Watch) -> float:
        due = max(watch.rests_until, self._cadence.next_look(watch.course))
        deadline = watch.since + self._polling.timeout
        return min(due, deadline) if watch.course.seen < deadline else due  # one last look when its time is up

    def _next_thought_in(self) -> float | None:
        """Give the seconds until a job is to be thought about, 0 for now; None where only an event can change that."""
        due, now = self._agenda.next_due(), self._now()
        if due is None or due > now:
            return None if due is None else due - now
        return self._gate.opens_in(now)

    def _start_look(self, group: TaskGroup) -> bool:
        """Start the look that is worth most; False if there is none that is due, among the first few."""
        now = self._now()
        is_scarce = self._pace is not None or self._gate.is_closed
        for _ in range(_THOUGHTS):
            watch = self._agenda.take(now, self._worth if is_scarce else None)
            if watch is None:
                break
            if self._due(watch) <= now:
                group.start_soon(self._look, watch, self._gate.leave(now))
                return True
            self._plan(watch)
        return False

    def _worth(self, watch: Watch) -> float:
        """Give what a look is worth: the seconds that its job is expected to have been finished unnoticed."""
        return self._cadence.wasted(watch.course, self._now())

    # One look

    async def _look(self, watch: Watch, permit: Permit) -> None:
        task_id = watch.job.task_id
        assert task_id is not None, "a job is followed only once it has a task_id"
        sight = await self._ask(task_id, PROBE_PATIENCE if permit.is_probe else None)
        self._tell_gate(permit, sight)
        if watch.job.status is JobStatus.RUNNING:  # else it was given up meanwhile
            await self._act(watch, sight)

    async def _ask(self, task_id: str, patience: float | None) -> Sight:
        self._roster.count("checks")
        answer: Reply | TransportError = TransportTimeout(f"check: no answer within {patience} s")
        try:
            if patience is None:  # the transport has a timeout of its own
                answer = await self._transport.check(task_id)
            else:
                with anyio.move_on_after(patience):
                    answer = await self._transport.check(task_id)
        except TransportError as error:
            answer = error
        return rules.judge_check(answer, task_id, now=self._roster.wall())

    def _tell_gate(self, permit: Permit, sight: Sight) -> None:
        now, dice = self._now(), self._dice()
        if rules.is_rate_limit(sight.error):
            self._gate.refused(permit, now, advice=sight.retry_after, dice=dice)
        elif isinstance(sight.error, TransportError) and not sight.error.sent:
            self._gate.unreachable(permit, now, dice=dice)
        else:  # a missed look makes its own job rest, and nobody else: looking costs nothing
            self._gate.passed(permit, accepted=False)
        self._bell.ring()

    # What a look makes of a job

    async def _act(self, watch: Watch, sight: Sight) -> None:
        if sight.task is not None:
            self._roster.see(watch.job, sight.task)
            watch.misses = watch.not_found = 0
        match sight.look:
            case Look.DONE:
                self._finish(watch)
            case Look.FAILED:
                await self._fail(watch.job, "the server gave it up")
            case Look.NO_LINK:
                await self._miss_link(watch)
            case Look.RUNNING:
                if sight.task is not None:
                    self._cadence.see(watch.course, sight.task, self._now())
                await self._look_again(watch, self._polling.minimum)
            case Look.DENIED if sight.error is not None:
                await self._lose(watch, about(f"job {watch.job.key!r}: {_still(watch.job)}", sight.error))
            case _:
                await self._miss(watch, sight)

    def _finish(self, watch: Watch) -> None:
        job, task = watch.job, watch.job.task
        assert task is not None
        self._left()
        took = self._cadence.finish(watch.course, task, self._now())
        facts = {"cost": task.cost, "credits": task.credits_cost, "took": took, "error": ""}
        self._roster.move(job, JobStatus.DOWNLOADING, **facts)  # nothing rests on it: a crash would only ask once more
        self._landed(job)

    async def _fail(self, job: Job, what: str) -> None:
        task = job.task
        assert task is not None
        self._left()
        words = ": ".join(dict.fromkeys(word for word in (task.error_code, task.error) if word))
        text = f"job {job.key!r} (task {job.task_id}): {what} ({task.status}){': ' if words else ''}{words}"
        error = JobFailed(text, key=job.key, task_id=job.task_id, task=task)
        await self._roster.sure(
            self._roster.move(
                job,
                JobStatus.FAILED,
                cost=task.cost,
                credits=task.credits_cost,
                error=text,
                finished_at=self._roster.wall(),
            )
        )
        self._roster.end(job, error)

    async def _miss_link(self, watch: Watch) -> None:
        watch.linkless += 1
        if watch.linkless > _LINKLESS_LOOKS:
            await self._fail(watch.job, f"finished, but {watch.linkless} checks have shown no video to fetch")
        else:
            watch.rests_until = self._now() + self._polling.minimum * 2 ** (watch.linkless - 1)
            self._plan(watch)

    async def _miss(self, watch: Watch, sight: Sight) -> None:
        """Take note of a look that has shown nothing; only many in a row, for long, end the following."""
        job, now = watch.job, self._now()
        watch.misses += 1
        watch.missed_since = now if watch.misses == 1 else watch.missed_since
        watch.not_found = watch.not_found + 1 if sight.look is Look.NOT_FOUND else 0
        if watch.not_found and (watch.is_foreign or rules.believes_not_found(watch.not_found, watch.age(self._now()))):
            assert sight.error is not None
            await self._lose(watch, about(f"job {job.key!r}: the server does not know task {job.task_id}", sight.error))
        elif rules.gives_up_looking(watch.misses, now - watch.missed_since, self._retry):
            reason = f"{watch.misses} checks in a row have failed, the last with: {sight.error}"
            await self._lose(watch, self._overdue(job, reason))
        else:
            await self._look_again(watch, rules.obey(sight.retry_after, watch.misses - 1, self._retry, self._dice()))

    async def _look_again(self, watch: Watch, rest: float) -> None:
        is_unseen = watch.is_late and watch.job.task is None  # its time was over before anybody could look
        if watch.age(self._now()) >= self._polling.timeout and not is_unseen:
            reason = f"it was not seen to finish within {self._polling.timeout:g} s"
            await self._lose(watch, self._overdue(watch.job, reason))
        else:
            watch.rests_until = self._now() + rest
            self._plan(watch)

    async def _lose(self, watch: Watch, error: OmniError) -> None:
        """Stop following a job that may still be running."""
        job = watch.job
        self._left()
        await self._roster.sure(self._roster.move(job, JobStatus.OVERDUE, error=str(error)))
        self._roster.end(job, error)

    def _overdue(self, job: Job, reason: str) -> JobOverdue:
        return JobOverdue(f"job {job.key!r}: {reason}; {_still(job)}", key=job.key, task_id=job.task_id)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _model(record: JobRecord) -> str:
    return str(json.loads(record.request).get("model", DEFAULT_MODEL)) if record.request else ""


def _still(job: Job) -> str:
    return f"task {job.task_id} may still be running, and can be followed again by that id"
