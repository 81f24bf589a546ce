"""`Poller`: checks every accepted task until it finishes, and passes its job on.

Theory of operation. A job whose task was accepted is a `TrackedJob`. It is either in the queue of `CheckSchedule` or
being checked by a short-lived asyncio task, never both. One coroutine starts the checks that are due, as its own rate
limiter allows, and sleeps until the next one. A check that says nothing about the task (an error page, a timeout, an
unreadable body) is an inconclusive check, not a failed job. Checks are free, so nothing that goes wrong here ever
causes a submit.

A webhook call is a hint that a check is due now (see `WebhookHints`), and nothing more.
"""

from __future__ import annotations

import asyncio
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
from ..logs import get_logger
from ..ratelimit.backoff import retry_delay
from ..ratelimit.limiter import Permit, RateLimiter
from ..timing import WakeEvent, raise_if_cancelled
from .outcomes import OutcomeRecorder, missing_url_error, timeout_error
from .robust_planner import RobustPlanner
from .schedule import CheckSchedule
from .tracked_job import TrackedJob, resume_hint

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


# Status requests in progress at the same time. It bounds the connections and the memory that they use. At a latency of
# 0.5 s, 64 allow 128 checks a second, enough for some 2,000 jobs of two minutes that are checked seven times each. Half
# would delay checks beyond 1,000 of them; double would open more connections than most servers like. Chosen, not
# measured.
MAX_CONCURRENT = 64
# Seconds until the one probe after a 429 counts as unanswered. No other check leaves meanwhile, so the timeout of an
# ordinary request would hold up all jobs. Half could be too short for a slow server, double holds them up for longer.
# Chosen, not measured.
PROBE_TIMEOUT = 5.0
# Further checks, at least, of a task that is finished, but shows no URL yet. The gap doubles from
# `Polling.min_interval`: five take half a minute. They are all if the task gives a reason. Without one, the URL of a
# paid clip may come late, and the checks go on for `Retry.timeout`. More would hide for longer that a clip was
# filtered. Chosen, not measured.
_MIN_CHECKS_WITHOUT_URL = 5

# Checks of a job in a row, before this one, that the server must have denied too. A gateway whose database is away for
# a moment calls a good key invalid. At half, that stops the polling of paid tasks; at double, a key that was revoked
# is tried a few times more. Chosen, not measured.
_DENIED_BEFORE = 3

_log = get_logger(__name__)


class Poller:
    """Checks every job in flight, and passes on those that have finished.

    `on_finished` is called with each job whose clip can be downloaded, and `on_slot_freed` with each job that no longer
    runs on the server: with the time when it ended (the event loop's clock), None if that is unknown, and by how many
    seconds that may be wrong. `jitter` returns a random number from 0 to 1.
    """

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        *,
        limits: Limits,
        retry: Retry,
        polling: Polling,
        on_finished: Callable[[JobState], None],
        on_slot_freed: Callable[[float | None, float], None],
        webhook: WebhookReceiver,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._clock = registry.clock
        self._retry = retry
        self._polling = polling
        self._planner = RobustPlanner(polling)
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
        # Even gaps, without bursts: `Limits.checks_per_second` may be less than one.
        self._rate = AsyncLimiter(1, 1 / limits.checks_per_second) if limits.checks_per_second else None

    def seed(self, records: Iterable[JobRecord]) -> None:
        """Learn from the records of earlier jobs how long jobs take."""
        for record in records:
            if record.server_seconds is not None:
                self._planner.seed(record.model, record.server_seconds)

    @property
    def detection_delay(self) -> float:
        """The mean number of seconds between the end of a job and the check that shows it."""
        return self._planner.detection_delay

    def durations(self) -> DurationDistribution | None:
        """Return how long jobs of the model with the most finished jobs take, None until one job has finished."""
        return self._planner.durations()

    def track(self, job: JobState, *, age: float = 0.0, check_now: bool = False) -> None:
        """Check a job until it finishes. It was accepted `age` seconds ago.

        `check_now` is for a job of an earlier run, or one submitted elsewhere: it may have finished long ago.
        """
        now = self._clock.now()
        history = self._planner.begin(job.record.model, now - age, now, is_new=not check_now)
        tracked = TrackedJob(job, now - age, history, had_timed_out=age >= self._polling.timeout)
        tracked.not_before = 0.0 if check_now else now + self._polling.min_interval
        self.schedule.hints.track(tracked)
        self.schedule.add(tracked)

    async def run(self) -> None:
        """Start checks when they are due, until cancelled."""
        # Not anyio's task group: a check needs no cancel scope of its own, and anyio's tasks cost three times as much.
        async with asyncio.TaskGroup() as group:
            while True:
                wait = self._delay()
                if wait != 0:
                    await self._wake.wait(wait)
                    continue
                if self._rate is not None:
                    await self._rate.acquire()
                if self._delay() != 0 or not self._start_check(group):
                    await asyncio.sleep(0)

    # When to check

    def _delay(self) -> float | None:
        """Return the seconds until a job is to be evaluated: 0 for now, None if only an event can change that."""
        wait = self.schedule.delay()
        return wait if wait != 0 else self._limiter.delay(self._clock.now())

    def _start_check(self, group: asyncio.TaskGroup) -> bool:
        """Start the most urgent check. Return False if none of the first few jobs in the queue is due."""
        tracked = self.schedule.pop_due(is_scarce=self._rate is not None or self._limiter.is_paused)
        if tracked is None:
            return False
        tracked.is_being_checked = True
        group.create_task(self._check(tracked, self._limiter.acquire(self._clock.now())))
        return True

    # One check

    async def _check(self, tracked: TrackedJob, permit: Permit) -> None:
        task_id = tracked.job.task_id
        assert task_id is not None, "a job is tracked only once it has a task_id"
        started = self._clock.now()
        if tracked.webhook_calls is not None:
            tracked.webhook_calls.record_check(started)
        result = await self._request(tracked.job, task_id, PROBE_TIMEOUT if permit.is_probe else None)
        self._report_to_limiter(permit, result)
        try:
            self._registry.events.checked(tracked.job, self._clock.now() - started, result.error)
            if tracked.job.status is JobStatus.RUNNING:  # it may have been cancelled meanwhile
                await self._apply(tracked, result)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it must not end the other jobs
            raise_if_cancelled(error)
            await self._recover(tracked, error)

    async def _recover(self, tracked: TrackedJob, error: BaseException) -> None:
        """Count a check whose result could not be processed as inconclusive; end the job if that is impossible too."""
        job = tracked.job
        try:
            if job.status is JobStatus.RUNNING and not job.done():
                failure = self._registry.log_unexpected(job, error, "followed")
                await self._handle_inconclusive(tracked, CheckResult(CheckOutcome.INCONCLUSIVE, error=failure))
                return
        except Exception as another:  # noqa: BLE001 - as above
            error = another
        self._outcomes.end_unexpectedly(job, error)

    async def _request(self, job: JobState, task_id: str, timeout: float | None) -> CheckResult:
        self._registry.totals.count("checks")
        response: Response | TransportError = TransportTimeout(f"check: no response within {timeout} s")
        try:
            if timeout is None:  # the transport has a timeout of its own
                response = await self._transport.check(task_id)
            else:
                with anyio.move_on_after(timeout):
                    response = await self._transport.check(task_id)
            return classify_check(response, task_id, now=self._clock.wall(), requested=job.record.sent_texts)
        except TransportError as error:
            return classify_check(error, task_id, now=self._clock.wall())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it must not end the other jobs
            raise_if_cancelled(error)
            failure = self._registry.log_unexpected(job, error, "checked")
            return CheckResult(CheckOutcome.INCONCLUSIVE, error=failure)

    def _report_to_limiter(self, permit: Permit, result: CheckResult) -> None:
        now, jitter = self._clock.now(), self._jitter()
        if is_rate_limit(result.error):
            self._limiter.on_rate_limited(permit, now, retry_after=result.retry_after, jitter=jitter)
        elif isinstance(result.error, TransportError) and not result.error.sent:
            self._limiter.on_unreachable(permit, now, jitter=jitter)
        else:  # an inconclusive check delays the next one of its own job, and no other
            self._limiter.on_success(permit, now, accepted=False)
        self._wake.set()

    # What a check means for its job

    async def _apply(self, tracked: TrackedJob, result: CheckResult) -> None:
        if result.task is not None:
            self._registry.record_check(tracked.job, result.task)
            tracked.inconclusive_checks = tracked.not_found_checks = 0
        tracked.denied_checks = tracked.denied_checks + 1 if result.outcome is CheckOutcome.DENIED else 0
        match result.outcome:
            case CheckOutcome.FINISHED:
                self._outcomes.record_finished(tracked, self._clock.now())
            case CheckOutcome.FAILED:
                await self._outcomes.record_failed(tracked, "failed on the server", self._clock.now())
            case CheckOutcome.NO_URL:
                await self._handle_missing_url(tracked)
            case CheckOutcome.RUNNING:
                if result.task is not None:
                    self._planner.observe_running(tracked.history, result.task, self._clock.now())
                self.schedule.hints.observe_unfinished(tracked)
                await self._check_again(tracked, self._polling.min_interval)
            case CheckOutcome.DENIED if result.error is not None and tracked.denied_checks > _DENIED_BEFORE:
                await self._outcomes.stop_tracking(
                    tracked.job, with_prefix(f"job {tracked.job.key!r}: {resume_hint(tracked.job)}", result.error)
                )
            case _:
                await self._handle_inconclusive(tracked, result)

    async def _handle_missing_url(self, tracked: TrackedJob) -> None:
        """Check again later. Only a task that says why it has no video is a failed one: any other may be paid for."""
        job, now = tracked.job, self._clock.now()
        tracked.record_missing_url(now)
        has_reason = job.task is not None and bool(job.task.error or job.task.error_code)
        patience = 0.0 if has_reason else self._retry.timeout
        reason = f"the server reports it as finished, but {tracked.checks_without_url} checks showed no video URL"
        if tracked.checks_without_url <= _MIN_CHECKS_WITHOUT_URL or now - tracked.without_url_since < patience:
            tracked.not_before = now + self._gap_without_url(tracked.checks_without_url)
            self.schedule.add(tracked)
        elif has_reason:
            await self._outcomes.record_failed(tracked, reason, now)
        else:
            await self._outcomes.stop_tracking(job, missing_url_error(job, reason))

    def _gap_without_url(self, checks: int) -> float:
        shortest, longest = self._polling.min_interval, self._polling.max_interval
        return min(shortest * 2.0 ** min(checks - 1, 30), max(longest, 16 * shortest))

    async def _handle_inconclusive(self, tracked: TrackedJob, result: CheckResult) -> None:
        """Check again later; stop tracking the job after many inconclusive checks in a row over a long time."""
        _log.info("job %r: check inconclusive: %s", tracked.job.key, result.error)
        job, now = tracked.job, self._clock.now()
        tracked.record_inconclusive(now, is_not_found=result.outcome is CheckOutcome.NOT_FOUND)
        if tracked.not_found_checks and (
            tracked.is_external or is_not_found_final(tracked.not_found_checks, tracked.age(now))
        ):
            assert result.error is not None
            await self._outcomes.stop_tracking(
                job, with_prefix(f"job {job.key!r}: the server does not know task {job.task_id}", result.error)
            )
        elif should_stop_checking(tracked.inconclusive_checks, now - tracked.inconclusive_since, self._retry):
            reason = f"{tracked.inconclusive_checks} checks in a row failed, the last with: {result.error}"
            await self._outcomes.stop_tracking(job, timeout_error(job, reason))
        else:
            await self._check_again(
                tracked, retry_delay(result.retry_after, tracked.inconclusive_checks - 1, self._retry, self._jitter())
            )

    async def _check_again(self, tracked: TrackedJob, delay: float) -> None:
        # A job that is resumed after `Polling.timeout` is given up only once a check has shown how it stands.
        is_unchecked = tracked.had_timed_out and tracked.job.task is None
        if tracked.age(self._clock.now()) >= self._polling.timeout and not is_unchecked:
            reason = f"it did not finish within {self._polling.timeout:g} s"
            await self._outcomes.stop_tracking(tracked.job, timeout_error(tracked.job, reason))
        else:
            tracked.not_before = self._clock.now() + delay
            self.schedule.add(tracked)
