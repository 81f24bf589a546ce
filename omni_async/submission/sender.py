"""`Sender`: one POST: recorded as being sent, sent, and classified. The submitter decides which one, and when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..api.outcomes import SubmitOutcome, SubmitResult, classify_submit
from ..api.parsing import encode_json
from ..errors import LedgerError, TransportError
from ..jobs.keys import new_idempotency_key
from ..jobs.lifecycle import JobStatus
from ..logs import get_logger
from ..timing import raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from .references import PreparedBody, ReferencePreparer


class FilesChanged(Exception):
    """A local file of a job has changed since it was prepared: the job returns to the queue."""


_log = get_logger(__name__)


@dataclass(slots=True)
class OutstandingSubmit:
    """A POST that was started at the time `since`, and the asyncio task that makes it.

    `is_sent` becomes true directly before the first byte leaves.
    """

    since: float
    is_sent: bool = False
    result: SubmitResult | None = None  # None: it was not sent
    task: asyncio.Task[None] | None = None

    def sent_callback(self, on_sent: Callable[[], object] | None) -> Callable[[], None]:
        """Return a function to call directly before the first byte leaves; it calls `on_sent()`."""

        def callback() -> None:
            self.is_sent = True
            if on_sent is not None:
                on_sent()

        return callback


class Sender:
    """Sends single submits. `webhook_url(job)` returns the URL that a new submit of the job names, if any."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        references: ReferencePreparer,
        webhook_url: Callable[[JobState], str | None],
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._references = references
        self._webhook_url = webhook_url
        self._bodies: dict[JobState, PreparedBody] = {}  # of jobs that are recorded and about to be sent

    def must_wait_for_files(self, job: JobState) -> bool:
        """Return whether a job must wait for its local files. If so, it returns to the queue when they are ready."""
        return self._references.must_wait(job)

    async def record_submitting(self, job: JobState) -> None:
        """Record durably that this job is being sent. If `LedgerError` or `FilesChanged` is raised, it must not be."""
        prepared, webhook = None, self._webhook_url_of(job)
        if self._references.is_ready(job):
            prepared = await self._references.build_body(job, _added_fields(job.record, webhook))
            if prepared is None:
                raise FilesChanged
            self._bodies[job] = prepared
        submits, is_resend = job.record.submits + 1, job.status is not JobStatus.WAITING
        if is_resend:  # `submitted_at` stays: it is when the server may have received this idempotency key first
            change = self._registry.update(job, submits=submits)
        else:
            facts = {"submits": submits, "submitted_at": self._registry.clock.wall(), "webhook": webhook}
            facts |= _changed_facts(job.record, prepared)
            change = self._registry.transition(job, JobStatus.SUBMITTING, **facts)
        try:
            await change
        except LedgerError:
            self.roll_back(job, is_resend=is_resend)  # else it would count as ambiguous once the disk has room again
            raise

    def key_age(self, job: JobState) -> float:
        """Return how many seconds ago the server may have received the idempotency key of a job first."""
        first_sent_at = job.record.submitted_at
        return 0.0 if first_sent_at is None else max(0.0, self._registry.clock.wall() - first_sent_at)

    def roll_back(self, job: JobState, *, is_resend: bool) -> Awaitable[None]:
        """Undo the record of a job that was not sent. A resend stays ambiguous because of the earlier POST."""
        submits = job.record.submits - 1
        self._bodies.pop(job, None)
        if is_resend:
            return self._registry.update(job, submits=submits)
        return self._registry.transition(job, JobStatus.WAITING, submits=submits)

    def _webhook_url_of(self, job: JobState) -> str | None:
        """Return the webhook URL of a job: chosen for its first POST, and the same on every resend under its key."""
        record = job.record
        return self._webhook_url(job) if record.submitted_at is None else record.webhook

    async def send(
        self, job: JobState, submit: OutstandingSubmit, on_sent: Callable[[], object] | None, *, is_resend: bool
    ) -> SubmitResult:
        """Send a job and return the outcome. `on_sent()` is called when the request begins to leave.

        If it is cut short here before that, the job is recorded as not sent.
        """
        clock = self._registry.clock
        since = clock.now()
        try:
            result = await self._post(job, submit, on_sent)
        except BaseException as error:  # also cancellation: the listener hears of every POST that was started
            self._registry.events.submitted(job, clock.now() - since, error)
            if not submit.is_sent:
                self.roll_back(job, is_resend=is_resend)
            raise
        finally:
            self._references.on_sent(job)
        self._registry.events.submitted(job, clock.now() - since, result.error)
        if result.error is not None:
            _log.info("job %r: submit %s: %s", job.key, result.outcome.name.lower(), result.error)
        return result

    async def _post(
        self, job: JobState, submit: OutstandingSubmit, on_sent: Callable[[], object] | None
    ) -> SubmitResult:
        """Make the POST. Any exception other than `TransportError` becomes an outcome of this job only."""
        clock, response = self._registry.clock, None
        try:
            body, extended = self._body_of(job), job.record.extended_task_id
            key, callback = job.record.idempotency_key, submit.sent_callback(on_sent)
            response = await self._transport.submit(body, key, on_sent=callback)
            return classify_submit(response, now=clock.wall(), extended=extended)
        except TransportError as error:
            return classify_submit(error, now=clock.wall())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it must not end the other jobs
            raise_if_cancelled(error)
            if not submit.is_sent:
                failure = self._registry.log_unexpected(job, error, "sent")
                return SubmitResult(SubmitOutcome.NOT_SENT, error=failure)
            self._registry.log_unexpected(job, error, "submitted")
            text = f"submit: unexpected {type(error).__name__}: {error}"
            return classify_submit(TransportError(text, responded=response is not None), now=clock.wall())

    def _body_of(self, job: JobState) -> bytes:
        if (prepared := self._bodies.pop(job, None)) is not None:
            return prepared.body
        request = job.request
        assert request is not None, "a job without a request is never queued"
        return encode_json(request.to_payload() | _added_fields(job.record, job.record.webhook))

    async def keep_outcome(self, job: JobState, result: SubmitResult | None, *, is_resend: bool) -> None:
        """Record what is known of a POST whose job ends unexpectedly. Never raise.

        A POST that was not sent is rolled back, a task that was accepted is recorded, anything else stays `submitting`:
        a later run treats it as ambiguous.
        """
        self._bodies.pop(job, None)
        try:
            if result is None and job.status is JobStatus.SUBMITTING:
                await self.roll_back(job, is_resend=is_resend)
            elif result is not None and result.task_id is not None and job.task_id is None:
                await self._registry.record_accepted(job, task_id=result.task_id)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the job ends with what came first
            raise_if_cancelled(error)
            _log.exception("job %r: what is known of its submit could not be recorded: %s", job.key, result)


def _added_fields(record: JobRecord, webhook: str | None) -> dict[str, str]:
    """Return the fields that are not the request's own: the task that it extends, and the webhook."""
    fields = {"extend_from_task_id": record.parent_task_id, "webhook": webhook}
    return {name: value for name, value in fields.items() if value}


def _changed_facts(record: JobRecord, prepared: PreparedBody | None) -> dict[str, Any]:
    """Return what a body with local files changes in the record.

    After a refusal, other uploads make another body, which needs another idempotency key.
    """
    if prepared is None:
        return {}
    is_other = bool(record.sent_references) and record.sent_references != prepared.sent_references
    return {"sent_references": prepared.sent_references} | (
        {"idempotency_key": new_idempotency_key()} if is_other else {}
    )
