"""Sends what waits: one line of jobs, let out by the gate and the pace, and what each answer makes of them.

Theory of operation. One coroutine takes the next job when the gate says so and starts its POST; at most `WIDTH` are on
the wire. A job that is refused for now goes back to the head of the line. One whose outcome is unclear (in doubt) rests
for a backoff of its own and is resent under the same idempotency key; till then its row says `submitting`: the truth.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import anyio

from ..api.outcomes import Judgement, Verdict, is_rate_limit
from ..errors import LedgerError, OmniError, about
from ..jobs.lifecycle import JobStatus
from ..jobs.spending import cost_limit_reached
from ..ratelimit.adaptive import Learner
from ..ratelimit.limiter import Gate, Permit
from ..ratelimit.pacer import Pace
from ..timing import Bell
from .queue import Doubts, Line
from .sender import OnWire, Post, Unready

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from ..jobs.job import Job
    from ..jobs.registry import Roster
    from ..settings import Limits, Retry


WIDTH = 16  # POSTs on the wire at once; so many, and no more, may still be refused when the credit ends
GRACE = 3.0  # seconds in which a POST on the wire may still be answered when the client is left in a hurry

_log = logging.getLogger("omni_async.submitter")


class Submitter:
    """The way out for every job of one client."""

    def __init__(
        self,
        post: Post,
        roster: Roster,
        *,
        limits: Limits,
        retry: Retry,
        follow: Callable[[Job], None],
        found: Callable[[], None] = lambda: None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        per_minute = limits.submits_per_minute
        learner = Learner(retry, told=per_minute and per_minute / 60)
        self.gate = Gate(capacity=limits.max_in_flight, width=WIDTH, retry=retry, learner=learner)
        self.stopped: OmniError | None = None
        self._post = post
        self._roster = roster
        self._retry = retry
        self._follow = follow
        self._found = found
        self._dice = dice
        self._pace = Pace(per_minute) if per_minute else None
        self.line: Line[Job] = Line()
        self._doubts: Doubts[Job] = Doubts(retry)
        self._on_wire: dict[Job, OnWire] = {}
        self._ceiling = limits.max_cost
        self._is_winding_up = False
        self._bell = Bell()

    def put(self, job: Job) -> None:
        """Take a job into the line; one that is recorded as being sent is in doubt from the start."""
        if job.status is JobStatus.SUBMITTING:
            self._note_doubt(job)
        self.rejoin(job)

    def cancel(self, job: Job) -> None:
        """Give up a job that is not accepted yet: at once, or, if it is on the wire, once its answer is recorded."""
        job._wants_cancel = True
        if job not in self._on_wire:
            self._give_up(job)

    def finished(self, ended_at: float | None = None) -> None:
        """Take note that a job in flight has ended on the server, at that time of its clock (None: now)."""
        self.gate.finished(self.now(), ended_at=ended_at)
        self._bell.ring()

    def stop(self, error: OmniError) -> None:
        """Let nothing more out. All that wait get the error; in the ledger they stay as they are."""
        if self.stopped is not None:
            return
        self.stopped = error
        _log.warning("no more submits: %s", error)
        self.line.clear()
        for job in self._roster.live():
            is_unsent = job.status in {JobStatus.WAITING, JobStatus.SUBMITTING} and job not in self._on_wire
            if is_unsent and job._is_admitted:  # of one at the door, the ledger may know that it is done
                self.end(job, error)

    def reopen(self) -> None:
        """Let jobs out again after a stop, with all patience."""
        self.stopped = None
        self.gate.rested()

    async def run(self) -> None:
        """Let jobs out as fast as gate and pace allow, until cancelled; POSTs on the wire then get `GRACE`."""
        async with anyio.create_task_group() as group:
            try:
                while True:
                    await self._wait_for_turn()
                    self._let_out(group)
            finally:
                self._wind_up()

    # Whose turn it is

    async def _wait_for_turn(self) -> None:
        """Wait until a job is there, the gate is open and the pace is kept."""
        is_paced = self._pace is None
        while (wait := self._turn_comes_in()) != 0 or not is_paced:
            if wait == 0 and self._pace is not None:
                await self._pace.turn()  # the gate may close meanwhile: it is asked once more
            else:
                await self._bell.wait(wait)
            is_paced = wait == 0 or self._pace is None  # a turn that was not taken is gone

    def _turn_comes_in(self) -> float | None:
        """Give the seconds until something may leave, 0 for now; None where only an event can bring it about."""
        now = self.now()
        while (job := self.line.first(now)) is not None and (job.done() or self._post.holds(job)):
            self.line.take()
        back = self.line.next_return()
        if job is None and back is None and not self._on_wire:
            self.gate.rested()
        held = 0 if job in self._doubts else len(self._doubts)
        opens = None if job is None or self._is_too_dear(job) else self.gate.opens_in(now, held=held)
        returns = None if back is None else max(0.001, back - now)  # who comes back may go where the first may not
        return min((wait for wait in (opens, returns) if wait is not None), default=None)

    def _is_too_dear(self, job: Job) -> bool:
        """Tell whether it might pass the ceiling; stops the line if no bill is to come that could show more room."""
        if self._ceiling is None or job in self._doubts:  # what is in doubt is counted already
            return False
        leaving = sum(other.status is JobStatus.WAITING for other in self._on_wire)
        fits = self._roster.spent.fits_one_more(self._ceiling, leaving=leaving)
        if not fits and not self._on_wire and not self._roster.awaits_bills:
            self.stop(cost_limit_reached(self._roster.spent, self._ceiling))
        return not fits

    def _let_out(self, group: TaskGroup) -> None:
        job, now = self.line.take(), self.now()
        self._on_wire[job] = OnWire(now)
        group.start_soon(self._send, job, self.gate.leave(now))

    def rejoin(self, job: Job) -> None:
        """Take a job back into the line, at its old place."""
        if job._wants_cancel:
            self._give_up(job)
        elif self.stopped is not None:
            self.end(job, self.stopped)
        elif not self._is_winding_up:
            self.line.put(job)
            self._bell.ring()

    def _wind_up(self) -> None:
        """Let nothing more out, and give the POSTs on the wire a little time to be answered and recorded."""
        self._is_winding_up = True
        self.line.clear()
        for post in self._on_wire.values():
            post.scope.deadline = min(post.scope.deadline, anyio.current_time() + GRACE)

    # One POST

    async def _send(self, job: Job, permit: Permit) -> None:
        try:
            with self._on_wire[job].scope:
                await self._send_recorded(job, permit)
        except LedgerError as error:  # what cannot be recorded must not be bought
            self.stop(error)
            self.end(job, error)
        except Unready:
            self.rejoin(job)
        finally:
            del self._on_wire[job]
            self._bell.ring()

    async def _send_recorded(self, job: Job, permit: Permit) -> None:
        judgement: Judgement | None = None
        try:
            if job in self._doubts and self._post.is_forgotten(job):
                self._forget(job)
                await self._roster.leave_unknown(job, "the server no longer remembers its idempotency key")
                return
            await self._post.record(job)
            left = await self._pace.departure() if self._pace else None
            if job._wants_cancel or self.stopped is not None or self._is_winding_up:  # while it was being recorded
                await self._post.take_back(job, is_in_doubt=job in self._doubts)
                self.rejoin(job)
                return
            judgement = Judgement(Verdict.AMBIGUOUS)  # should the POST be cut short, nothing else is known
            judgement = await self._post.send(job, left)
        finally:
            self._tell_gate(permit, judgement)
        await self._act(job, judgement)
        if job._wants_cancel and not job.done():
            self._give_up(job)

    def _tell_gate(self, permit: Permit, judgement: Judgement | None) -> None:
        now, was_closed = self.now(), self.gate.is_closed
        self._report(permit, judgement, now)
        self._found()
        if judgement is None or judgement.error is None:
            return
        if judgement.verdict is Verdict.NOT_SENT and not was_closed:
            _log.warning("no way to the server, trying for %g s: %s", self._retry.budget, judgement.error)
        self._roster.count("refused", judgement.for_all and is_rate_limit(judgement.error))
        if self.gate.has_lost_patience(now):
            self.stop(judgement.error)

    def _report(self, permit: Permit, judgement: Judgement | None, now: float) -> None:
        """Tell the gate what became of a submit; None if it never left."""
        match judgement:
            case None:
                self.gate.withdrawn(permit)
            case Judgement(verdict=Verdict.NOT_SENT):
                self.gate.unreachable(permit, now, dice=self._dice())
            case Judgement(verdict=Verdict.AMBIGUOUS):
                self.gate.unclear(permit, now, dice=self._dice())
            case Judgement(verdict=Verdict.LATER, for_all=True):
                self.gate.refused(permit, now, advice=judgement.retry_after, dice=self._dice())
            case _:
                self.gate.passed(permit, now, accepted=judgement.verdict is Verdict.ACCEPTED)

    # What an answer makes of a job

    async def _act(self, job: Job, judgement: Judgement) -> None:
        match judgement.verdict:
            case Verdict.ACCEPTED:
                await self._accept(job, judgement)
            case Verdict.NEVER if job in self._doubts:  # ... and of the POST before this one nothing is known
                await self._doubt(job, judgement, hold=True)
            case Verdict.NEVER if judgement.error is not None:
                error = about(f"job {job.key!r}", judgement.error)
                await self._roster.move(job, JobStatus.FAILED, error=str(error), finished_at=self._roster.wall())
                self.end(job, error)
            case Verdict.AMBIGUOUS:
                await self._roster.note(job, doubtful=job._record.doubtful + 1)
                await self._doubt(job, judgement, hold=self._retry.ambiguous == "hold")
            case Verdict.LATER if not judgement.for_all:
                await self._doubt(job, judgement)  # its own earlier POST is still being worked on
            case Verdict.INDETERMINATE:
                await self._doubt(job, judgement, hold=True)
            case verdict:
                if verdict is Verdict.STOP and judgement.error is not None:
                    self.stop(judgement.error)
                if job not in self._doubts:  # else an earlier POST may have been taken
                    await self._roster.move(job, JobStatus.WAITING)
                self.rejoin(job)

    async def _accept(self, job: Job, judgement: Judgement) -> None:
        facts = {"task_id": judgement.task_id, "accepted_at": self._roster.wall()}
        if judgement.is_replay:
            facts["doubtful"] = 0  # the server says that it took it before, and did not take it again
        self._forget(job)
        await self._roster.sure(self._roster.move(job, JobStatus.RUNNING, **facts))
        job._announce()
        self._follow(job)

    async def _doubt(self, job: Job, judgement: Judgement, *, hold: bool = False) -> None:
        """Let a job in doubt rest and be sent again, or leave it unknown."""
        self._note_doubt(job)
        now = self.now()
        took = now - self._on_wire[job].since
        pause = self._doubts.rest(job, took, advice=judgement.retry_after, dice=self._dice())
        if hold or pause is None:
            self._forget(job)
            is_key_spent = judgement.verdict is Verdict.INDETERMINATE
            await self._roster.leave_unknown(job, str(judgement.error), is_key_spent=is_key_spent)
        elif job._wants_cancel:
            self._give_up(job)
        elif self.stopped is not None:
            self.end(job, self.stopped)
        elif not self._is_winding_up:
            self.line.put_at(job, now + pause)

    def _give_up(self, job: Job) -> None:
        if job.status is JobStatus.RUNNING:
            self.finished()
        self._forget(job)
        self._roster.cancel(job)

    def end(self, job: Job, error: OmniError) -> None:
        """Give the waiters of a job an error; in the ledger it stays as it is."""
        self._forget(job)
        self._roster.end(job, error)

    def _note_doubt(self, job: Job) -> None:
        if self._doubts.note(job):
            self.line.favour(job)  # others may wait for the place that it holds

    def _forget(self, job: Job) -> None:
        self.line.forget(job)
        self._doubts.forget(job)

    @staticmethod
    def now() -> float:
        """Give the time of its clock, the gate's."""
        return asyncio.get_running_loop().time()
