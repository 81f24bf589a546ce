"""Follows every job in flight: one coroutine, one agenda of due times, and what each look makes of a job.

Theory of operation. A job being followed is a `Watch`. It is either on the agenda, or being looked at by a short-lived
asyncio task; never both. The coroutine starts the looks that are due (see `Schedule`), as its own gate and pace allow,
and sleeps until the next one. A look that shows nothing (an error page, a timeout, garbage) is a missed look and not a
failed job.

A webhook is a hint that a look is due now (see `Wakeups`), and nothing more. With batch status one question is about
many jobs; it only ever tells who is still running, and the others are looked at singly.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import anyio
from aiolimiter import AsyncLimiter

from ..api.outcomes import Look, Sight, believes_not_found, gives_up_looking, is_rate_limit, judge_check
from ..errors import TransportError, TransportTimeout, about
from ..jobs.lifecycle import JobStatus
from ..ratelimit.backoff import obey
from ..ratelimit.limiter import Gate, Permit
from ..timing import Bell
from .batch_answers import as_task
from .batch_status import BatchStatus
from .outcomes import Ends, overdue
from .planner import Cadence
from .schedule import Schedule
from .tracked_job import Watch, model_of, still

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..api.parsing import Reply
    from ..api.transport import Transport
    from ..jobs.job import Job
    from ..jobs.records import JobRecord
    from ..jobs.registry import Roster
    from ..settings import Limits, Polling, Retry
    from .durations import Experience
    from .webhook import Webhook


WIDTH = 64  # status requests on the wire at once
PROBE_PATIENCE = 5.0  # seconds; while the one probe after a 429 is not answered, nobody is looked at
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
        left: Callable[[float | None], None],
        webhook: Webhook,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._roster = roster
        self._retry = retry
        self._polling = polling
        self._cadence = Cadence(polling)
        self._dice = dice
        self._bell = Bell()
        self.schedule = Schedule(polling, self._cadence, self._bell, webhook=webhook, dice=dice)
        self._ends = Ends(roster, self._cadence, self.schedule.wakeups.trust, landed=landed, left=left)
        self._batch = BatchStatus(transport, roster, polling)
        self._gate = Gate(capacity=None, width=WIDTH, retry=retry)
        self._pace = AsyncLimiter(1, 1 / limits.checks_per_second) if limits.checks_per_second else None

    def learn(self, records: Iterable[JobRecord]) -> None:
        """Take in from earlier jobs how long the server takes."""
        for record in records:
            if record.took is not None:
                self._cadence.learn(model_of(record), record.took)

    @property
    def experience(self) -> Experience:
        """How long jobs have taken so far."""
        return self._cadence.experience

    def follow(self, job: Job, *, age: float = 0.0, at_once: bool = False) -> None:
        """Follow a job that was accepted `age` seconds ago."""
        now = self._now()
        course = self._cadence.begin(model_of(job._record), now - age, now, is_watched=not at_once)
        watch = Watch(job, now - age, course, is_late=age >= self._polling.timeout)
        watch.rests_until = 0.0 if at_once else now + self._polling.minimum
        self.schedule.wakeups.expect(watch)
        self.schedule.plan(watch)

    async def run(self) -> None:
        """Start looks when they are due, for ever."""
        async with asyncio.TaskGroup() as group:  # a look needs no scope, and anyio's tasks cost three times as much
            while True:
                wait = self._opens_in()
                if wait != 0:
                    await self._bell.wait(wait)
                    continue
                if self._pace is not None:
                    await self._pace.acquire()
                if self._opens_in() != 0 or not self._start_look(group):
                    await asyncio.sleep(0)

    # When

    def _opens_in(self) -> float | None:
        """Give the seconds until a job is to be thought about, 0 for now; None where only an event can change that."""
        wait = self.schedule.opens_in()
        return wait if wait != 0 else self._gate.opens_in(self._now())

    def _start_look(self, group: asyncio.TaskGroup) -> bool:
        """Start the look that is worth most; False if there is none that is due, among the first few."""
        watch = self.schedule.take(is_scarce=self._pace is not None or self._gate.is_closed)
        if watch is None:
            return False
        is_shared = self._batch.is_on and not self._gate.is_closed
        watches = self.schedule.fellows(watch) if is_shared else [watch]
        permit = self._gate.leave(self._now())
        for each in watches:
            each.is_asked, each.crowd = True, len(watches)
        group.create_task(self._look_at_many(watches, permit) if len(watches) > 1 else self._look(watch, permit))
        return True

    # One look

    async def _look(self, watch: Watch, permit: Permit) -> None:
        task_id = watch.job.task_id
        assert task_id is not None, "a job is followed only once it has a task_id"
        watch.is_alone, since = False, self._now()
        if watch.calls is not None:
            watch.calls.looked(since)
        sight = await self._ask(task_id, PROBE_PATIENCE if permit.is_probe else None)
        self._tell_gate(permit, sight)
        self._roster.events.checked(watch.job, self._now() - since, sight.error)
        if watch.job.status is JobStatus.RUNNING:  # else it was given up meanwhile
            await self._act(watch, sight)

    async def _look_at_many(self, watches: Sequence[Watch], permit: Permit) -> None:
        answer = await self._batch.ask([str(watch.job.task_id) for watch in watches])
        self._tell_gate(permit, Sight(Look.MISSED, error=answer.error, retry_after=answer.retry_after))
        for watch in watches:
            word = answer.running.get(str(watch.job.task_id))
            if word is not None and watch.job.status is JobStatus.RUNNING:  # else it was given up meanwhile
                await self._act(watch, Sight(Look.RUNNING, as_task(watch.job.task_id or "", word, watch.job.task)))
            elif word is None:
                watch.is_alone = not answer.is_limit
                self.schedule.plan(watch)

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
        return judge_check(answer, task_id, now=self._roster.wall())

    def _tell_gate(self, permit: Permit, sight: Sight) -> None:
        now, dice = self._now(), self._dice()
        if is_rate_limit(sight.error):
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
                self._ends.finish(watch, self._now())
            case Look.FAILED:
                await self._ends.fail(watch, "the server gave it up", self._now())
            case Look.NO_LINK:
                await self._miss_link(watch)
            case Look.RUNNING:
                if sight.task is not None:
                    self._cadence.see(watch.course, sight.task, self._now(), is_whole=watch.crowd == 1)
                self.schedule.wakeups.see_unfinished(watch)
                await self._look_again(watch, self._polling.minimum)
            case Look.DENIED if sight.error is not None:
                await self._ends.lose(watch.job, about(f"job {watch.job.key!r}: {still(watch.job)}", sight.error))
            case _:
                await self._miss(watch, sight)

    async def _miss_link(self, watch: Watch) -> None:
        watch.linkless += 1
        if watch.linkless > _LINKLESS_LOOKS:
            what = f"finished, but {watch.linkless} checks have shown no video to fetch"
            await self._ends.fail(watch, what, self._now())
        else:
            watch.rests_until = self._now() + self._polling.minimum * 2 ** (watch.linkless - 1)
            self.schedule.plan(watch)

    async def _miss(self, watch: Watch, sight: Sight) -> None:
        """Take note of a look that has shown nothing; only many in a row, for long, end the following."""
        _log.info("job %r: a check has shown nothing: %s", watch.job.key, sight.error)
        job, now = watch.job, self._now()
        watch.miss(now, is_not_found=sight.look is Look.NOT_FOUND)
        if watch.not_found and (watch.is_foreign or believes_not_found(watch.not_found, watch.age(now))):
            assert sight.error is not None
            await self._ends.lose(
                job, about(f"job {job.key!r}: the server does not know task {job.task_id}", sight.error)
            )
        elif gives_up_looking(watch.misses, now - watch.missed_since, self._retry):
            reason = f"{watch.misses} checks in a row have failed, the last with: {sight.error}"
            await self._ends.lose(job, overdue(job, reason))
        else:
            await self._look_again(watch, obey(sight.retry_after, watch.misses - 1, self._retry, self._dice()))

    async def _look_again(self, watch: Watch, rest: float) -> None:
        is_unseen = watch.is_late and watch.job.task is None  # its time was over before anybody could look
        if watch.age(self._now()) >= self._polling.timeout and not is_unseen:
            reason = f"it was not seen to finish within {self._polling.timeout:g} s"
            await self._ends.lose(watch.job, overdue(watch.job, reason))
        else:
            watch.rests_until = self._now() + rest
            self.schedule.plan(watch)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
