"""One POST: recorded as being sent, sent, and judged."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from ..api.outcomes import SubmitResult, classify_submit, is_key_valid
from ..api.parsing import encode_json
from ..errors import LedgerError, TransportError
from ..jobs.keys import new_idempotency_key
from ..jobs.lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from .references import PreparedBody, ReferencePreparer


class FilesChanged(Exception):
    """A local file of a job has changed since it was made ready: the job goes back to the line."""


_log = logging.getLogger(__name__)


@dataclass(slots=True)
class OutstandingSubmit:
    """A POST that is on its way, since then; what has been sent must be recorded, so it is shielded."""

    since: float
    scope: anyio.CancelScope = field(default_factory=lambda: anyio.CancelScope(shield=True))


class Sender:
    """Sends submits one by one; who may be sent when is decided elsewhere."""

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
        self._bodies: dict[JobState, PreparedBody] = {}  # recorded, and on the point of being sent

    def must_wait_for_files(self, job: JobState) -> bool:
        """Tell whether a job has to wait for its local files; if so it rejoins the line by itself."""
        return self._references.must_wait(job)

    async def record_submitting(self, job: JobState) -> None:
        """Make it durable that this job is now being sent. Raises `LedgerError` and `FilesChanged`: then it must not be."""
        prepared, webhook = None, self._webhook_url_of(job)
        if self._references.is_ready(job):
            prepared = await self._references.build_body(job, _added_fields(job.record, webhook))
            if prepared is None:
                raise FilesChanged
            self._bodies[job] = prepared
        submits, is_in_doubt = job.record.submits + 1, job.status is not JobStatus.WAITING
        if is_in_doubt:  # what counts is when the server may have heard of this idempotency key first
            change = self._registry.update(job, submits=submits)
        else:
            facts = {"submits": submits, "submitted_at": self._registry.clock.wall(), "webhook": webhook}
            facts |= _changed_facts(job.record, prepared)
            change = self._registry.transition(job, JobStatus.SUBMITTING, **facts)
        try:
            await change
        except LedgerError:
            self.roll_back(job, is_in_doubt=is_in_doubt)  # else it would be in doubt once there is room again
            raise

    def is_key_expired(self, job: JobState) -> bool:
        """Tell whether the server has forgotten the key of a job in doubt by now, and would take it a second time."""
        first_sent_at = job.record.submitted_at
        return first_sent_at is not None and not is_key_valid(self._registry.clock.wall() - first_sent_at)

    def roll_back(self, job: JobState, *, is_in_doubt: bool) -> Awaitable[None]:
        """Undo the record of a job that was not sent after all; one in doubt stays so, for an earlier POST."""
        submits = job.record.submits - 1
        self._bodies.pop(job, None)
        if is_in_doubt:
            return self._registry.update(job, submits=submits)
        return self._registry.transition(job, JobStatus.WAITING, submits=submits)

    def _webhook_url_of(self, job: JobState) -> str | None:
        """Give the address for its hook: chosen with its first POST, and the same in all that follow under its key."""
        record = job.record
        return self._webhook_url(job) if record.submitted_at is None else record.webhook

    async def send(self, job: JobState, on_sent: Callable[[], object] | None = None) -> SubmitResult:
        """Send it, and tell what became of it; `left` is called when it begins to leave."""
        clock, prepared = self._registry.clock, self._bodies.pop(job, None)
        since = clock.now()
        if prepared is None:
            request = job.request
            assert request is not None, "a job without a request is never in the line"
            body = encode_json(request.to_payload() | _added_fields(job.record, job.record.webhook))
        else:
            body = prepared.body
        try:
            reply = await self._transport.submit(body, job.record.idempotency_key, on_sent=on_sent)
        except TransportError as error:
            judgement = classify_submit(error, now=clock.wall())
        except BaseException as cut:
            self._registry.events.submitted(job, clock.now() - since, cut)
            raise
        else:
            judgement = classify_submit(reply, now=clock.wall())
        finally:
            self._references.on_sent(job)
        self._registry.events.submitted(job, clock.now() - since, judgement.error)
        if judgement.error is not None:
            _log.info("job %r: submit %s: %s", job.key, judgement.outcome.name.lower(), judgement.error)
        return judgement


def _added_fields(record: JobRecord, webhook: str | None) -> dict[str, str]:
    """Give the fields that are not the request's own: the task that it goes on from, and who is to be called."""
    fields = {"extend_from_task_id": record.parent_task_id, "webhook": webhook}
    return {name: value for name, value in fields.items() if value}


def _changed_facts(record: JobRecord, prepared: PreparedBody | None) -> dict[str, Any]:
    """Give what changes for a body with local files: another body than the one that was refused needs another key."""
    if prepared is None:
        return {}
    is_other = bool(record.sent_references) and record.sent_references != prepared.sent_references
    return {"sent_references": prepared.sent_references} | (
        {"idempotency_key": new_idempotency_key()} if is_other else {}
    )
