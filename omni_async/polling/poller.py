"""Follows every job in flight: one coroutine, one queue of due times, and what each look makes of a job.

Theory of operation. A job being followed is a `Watch`. It is either on the queue, or being looked at by a short-lived
asyncio task; never both. The coroutine starts the looks that are due (see `Schedule`), as its own gate and pace allow,
and sleeps until the next one. A look that shows nothing (an error page, a timeout, garbage) is a missed look and not a
failed job.

A webhook is a hint that a look is due now (see `WebhookHints`), and nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import anyio
from aiolimiter import AsyncLimiter

from ..api.outcomes import (
    CheckOutcome,
    CheckResult,
    classify_check,
    is_not_found_final,
    is_rate_limit,
    should_stop_checking,
)
from ..errors import TransportError, TransportTimeout, with_prefix
from ..jobs.lifecycle import JobStatus
from ..ratelimit.backoff import retry_delay
from ..ratelimit.limiter import Permit, RateLimiter
from ..timing import WakeEvent
from .outcomes import OutcomeRecorder, timeout_error
from .planner import CheckPlanner
from .schedule import CheckSchedule
from .tracked_job import TrackedJob, model_of, resume_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from ..settings import Limits, Polling, Retry
    from .durations import DurationDistribution
    from .webhook import WebhookReceiver


MAX_CONCURRENT = 64  # status requests on the wire at once
PROBE_TIMEOUT = 5.0  # seconds; while the one probe after a 429 is not answered, nobody is looked at
_LINKLESS_LOOKS = 5  # how often a finished task without a link is looked at again

_log = logging.getLogger(__name__)


class Poller:
    """Asks the server about every job in flight, and passes on those that are finished."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        *,
        limits: Limits,
        retry: Retry,
        polling: Polling,
        on_finished: Callable[[JobState], None],
        on_slot_freed: Callable[[float | None], None],
        webhook: WebhookReceiver,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._clock = registry.clock
        self._retry = retry
        self._polling = polling
        self._planner = CheckPlanner(polling)
        self._jitter = jitter
        self._wake = WakeEvent()
        self.schedule: CheckSchedule = CheckSchedule(
            polling, self._planner, self._wake, clock=registry.clock, webhook=webhook, jitter=jitter
        )
        self._outcomes = OutcomeRecorder(
            registry,
            self._planner,
            self.schedule.hints.reliability,
            on_finished=on_finished,
            on_slot_freed=on_slot_freed,
        )
        self._limiter = RateLimiter(max_in_flight=None, max_concurrent=MAX_CONCURRENT, retry=retry)
        self._pacer = AsyncLimiter(1, 1 / limits.checks_per_second) if limits.checks_per_second else None

    def seed(self, records: Iterable[JobRecord]) -> None:
        """Take in from earlier jobs how long the server takes."""
        for record in records:
            if record.server_seconds is not None:
                self._planner.seed(model_of(record), record.server_seconds)

    @property
    def detection_delay(self) -> float:
        """The mean number of seconds between the end of a job and the check that shows it."""
        return self._planner.detection_delay

    def durations(self) -> DurationDistribution | None:
        """Return how long jobs take, None until one job has ended."""
        return self._planner.durations()

    def track(self, job: JobState, *, age: float = 0.0, check_now: bool = False) -> None:
        """Follow a job that was accepted `age` seconds ago."""
        now = self._clock.now()
        course = self._planner.begin(model_of(job.record), now - age, now, is_new=not check_now)
        watch = TrackedJob(job, now - age, course, had_timed_out=age >= self._polling.timeout)
        watch.not_before = 0.0 if check_now else now + self._polling.min_interval
        self.schedule.hints.track(watch)
        self.schedule.add(watch)

    async def run(self) -> None:
        """Start looks when they are due, for ever."""
        async with asyncio.TaskGroup() as group:  # a look needs no scope, and anyio's tasks cost three times as much
            while True:
                wait = self._delay()
                if wait != 0:
                    await self._wake.wait(wait)
                    continue
                if self._pacer is not None:
                    await self._pacer.acquire()
                if self._delay() != 0 or not self._start_check(group):
                    await asyncio.sleep(0)

    # When

    def _delay(self) -> float | None:
        """Give the seconds until a job is to be thought about, 0 for now; None where only an event can change that."""
        wait = self.schedule.delay()
        return wait if wait != 0 else self._limiter.delay(self._clock.now())

    def _start_check(self, group: asyncio.TaskGroup) -> bool:
        """Start the look that is worth most; False if there is none that is due, among the first few."""
        watch = self.schedule.pop_due(is_scarce=self._pacer is not None or self._limiter.is_paused)
        if watch is None:
            return False
        watch.is_being_checked = True
        group.create_task(self._check(watch, self._limiter.acquire(self._clock.now())))
        return True

    # One look

    async def _check(self, watch: TrackedJob, permit: Permit) -> None:
        task_id = watch.job.task_id
        assert task_id is not None, "a job is followed only once it has a task_id"
        since = self._clock.now()
        if watch.webhook_calls is not None:
            watch.webhook_calls.record_check(since)
        sight = await self._ask(task_id, PROBE_TIMEOUT if permit.is_probe else None)
        self._report_outcome(permit, sight)
        self._registry.events.checked(watch.job, self._clock.now() - since, sight.error)
        if watch.job.status is JobStatus.RUNNING:  # else it was given up meanwhile
            await self._apply(watch, sight)

    async def _ask(self, task_id: str, patience: float | None) -> CheckResult:
        self._registry.totals.count("checks")
        answer: Response | TransportError = TransportTimeout(f"check: no answer within {patience} s")
        try:
            if patience is None:  # the transport has a timeout of its own
                answer = await self._transport.check(task_id)
            else:
                with anyio.move_on_after(patience):
                    answer = await self._transport.check(task_id)
        except TransportError as error:
            answer = error
        return classify_check(answer, task_id, now=self._clock.wall())

    def _report_outcome(self, permit: Permit, sight: CheckResult) -> None:
        now, jitter = self._clock.now(), self._jitter()
        if is_rate_limit(sight.error):
            self._limiter.on_rate_limited(permit, now, retry_after=sight.retry_after, jitter=jitter)
        elif isinstance(sight.error, TransportError) and not sight.error.sent:
            self._limiter.on_unreachable(permit, now, jitter=jitter)
        else:  # a missed look makes its own job rest, and nobody else: looking costs nothing
            self._limiter.on_success(permit, now, accepted=False)
        self._wake.set()

    # What a look makes of a job

    async def _apply(self, watch: TrackedJob, sight: CheckResult) -> None:
        if sight.task is not None:
            self._registry.record_check(watch.job, sight.task)
            watch.inconclusive_checks = watch.not_found_checks = 0
        match sight.outcome:
            case CheckOutcome.FINISHED:
                self._outcomes.record_finished(watch, self._clock.now())
            case CheckOutcome.FAILED:
                await self._outcomes.record_failed(watch, "the server gave it up", self._clock.now())
            case CheckOutcome.NO_URL:
                await self._handle_missing_url(watch)
            case CheckOutcome.RUNNING:
                if sight.task is not None:
                    self._planner.observe_running(watch.history, sight.task, self._clock.now())
                self.schedule.hints.observe_unfinished(watch)
                await self._check_again(watch, self._polling.min_interval)
            case CheckOutcome.DENIED if sight.error is not None:
                await self._outcomes.stop_tracking(
                    watch.job, with_prefix(f"job {watch.job.key!r}: {resume_hint(watch.job)}", sight.error)
                )
            case _:
                await self._handle_inconclusive(watch, sight)

    async def _handle_missing_url(self, watch: TrackedJob) -> None:
        watch.checks_without_url += 1
        if watch.checks_without_url > _LINKLESS_LOOKS:
            what = f"finished, but {watch.checks_without_url} checks have shown no video to fetch"
            await self._outcomes.record_failed(watch, what, self._clock.now())
        else:
            watch.not_before = self._clock.now() + self._polling.min_interval * 2 ** (watch.checks_without_url - 1)
            self.schedule.add(watch)

    async def _handle_inconclusive(self, watch: TrackedJob, sight: CheckResult) -> None:
        """Take note of a look that has shown nothing; only many in a row, for long, end the following."""
        _log.info("job %r: a check has shown nothing: %s", watch.job.key, sight.error)
        job, now = watch.job, self._clock.now()
        watch.record_inconclusive(now, is_not_found=sight.outcome is CheckOutcome.NOT_FOUND)
        if watch.not_found_checks and (watch.is_external or is_not_found_final(watch.not_found_checks, watch.age(now))):
            assert sight.error is not None
            await self._outcomes.stop_tracking(
                job, with_prefix(f"job {job.key!r}: the server does not know task {job.task_id}", sight.error)
            )
        elif should_stop_checking(watch.inconclusive_checks, now - watch.inconclusive_since, self._retry):
            reason = f"{watch.inconclusive_checks} checks in a row have failed, the last with: {sight.error}"
            await self._outcomes.stop_tracking(job, timeout_error(job, reason))
        else:
            await self._check_again(
                watch, retry_delay(sight.retry_after, watch.inconclusive_checks - 1, self._retry, self._jitter())
            )

    async def _check_again(self, watch: TrackedJob, rest: float) -> None:
        is_unseen = watch.had_timed_out and watch.job.task is None  # its time was over before anybody could look
        if watch.age(self._clock.now()) >= self._polling.timeout and not is_unseen:
            reason = f"it was not seen to finish within {self._polling.timeout:g} s"
            await self._outcomes.stop_tracking(watch.job, timeout_error(watch.job, reason))
        else:
            watch.not_before = self._clock.now() + rest
            self.schedule.add(watch)
