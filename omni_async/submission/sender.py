"""One POST: recorded as being sent, sent, and judged."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from ..api import parsing as wire
from ..api.outcomes import Judgement, is_remembered, judge_submit
from ..errors import LedgerError, TransportError
from ..jobs.keys import new_idempotency_key
from ..jobs.lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..api.transport import Transport
    from ..jobs.job import Job
    from ..jobs.records import JobRecord
    from ..jobs.registry import Roster
    from .references import Parcel, References


class Unready(Exception):
    """A local file of a job has changed since it was made ready: the job goes back to the line."""


_log = logging.getLogger("omni_async.submitter")


@dataclass(slots=True)
class OnWire:
    """A POST that is on its way, since then; what has been sent must be recorded, so it is shielded."""

    since: float
    scope: anyio.CancelScope = field(default_factory=lambda: anyio.CancelScope(shield=True))


class Post:
    """Sends submits one by one; who may be sent when is decided elsewhere."""

    def __init__(
        self, transport: Transport, roster: Roster, references: References, webhook_url: Callable[[Job], str | None]
    ) -> None:
        self._transport = transport
        self._roster = roster
        self._references = references
        self._webhook_url = webhook_url
        self._parcels: dict[Job, Parcel] = {}  # recorded, and on the point of being sent

    def holds(self, job: Job) -> bool:
        """Tell whether a job has to wait for its local files; if so it rejoins the line by itself."""
        return self._references.holds(job)

    async def record(self, job: Job) -> None:
        """Make it durable that this job is now being sent. Raises `LedgerError` and `Unready`: then it must not be."""
        parcel, webhook = None, self._webhook_of(job)
        if self._references.is_ready(job):
            parcel = await self._references.pack(job, _added(job._record, webhook))
            if parcel is None:
                raise Unready
            self._parcels[job] = parcel
        submits, is_in_doubt = job._record.submits + 1, job.status is not JobStatus.WAITING
        if is_in_doubt:  # what counts is when the server may have heard of this idempotency key first
            change = self._roster.note(job, submits=submits)
        else:
            facts = {"submits": submits, "submitted_at": self._roster.wall(), "webhook": webhook}
            facts |= _news(job._record, parcel)
            change = self._roster.move(job, JobStatus.SUBMITTING, **facts)
        try:
            await change
        except LedgerError:
            self.take_back(job, is_in_doubt=is_in_doubt)  # else it would be in doubt once there is room again
            raise

    def is_forgotten(self, job: Job) -> bool:
        """Tell whether the server has forgotten the key of a job in doubt by now, and would take it a second time."""
        first_sent_at = job._record.submitted_at
        return first_sent_at is not None and not is_remembered(self._roster.wall() - first_sent_at)

    def take_back(self, job: Job, *, is_in_doubt: bool) -> Awaitable[None]:
        """Undo the record of a job that was not sent after all; one in doubt stays so, for an earlier POST."""
        submits = job._record.submits - 1
        self._parcels.pop(job, None)
        if is_in_doubt:
            return self._roster.note(job, submits=submits)
        return self._roster.move(job, JobStatus.WAITING, submits=submits)

    def _webhook_of(self, job: Job) -> str | None:
        """Give the address for its hook: chosen with its first POST, and the same in all that follow under its key."""
        record = job._record
        return self._webhook_url(job) if record.submitted_at is None else record.webhook

    async def send(self, job: Job, left: Callable[[], object] | None = None) -> Judgement:
        """Send it, and tell what became of it; `left` is called when it begins to leave."""
        parcel, since = self._parcels.pop(job, None), _now()
        if parcel is None:
            request = job.request
            assert request is not None, "a job without a request is never in the line"
            body = wire.encode(request.body() | _added(job._record, job._record.webhook))
        else:
            body = parcel.body
        try:
            reply = await self._transport.submit(body, job._record.idempotency_key, left=left)
        except TransportError as error:
            judgement = judge_submit(error, now=self._roster.wall())
        except BaseException as cut:
            self._roster.events.submitted(job, _now() - since, cut)
            raise
        else:
            judgement = judge_submit(reply, now=self._roster.wall())
        finally:
            self._references.sent(job)
        self._roster.events.submitted(job, _now() - since, judgement.error)
        if judgement.error is not None:
            _log.info("job %r: submit %s: %s", job.key, judgement.verdict.name.lower(), judgement.error)
        return judgement


def _added(record: JobRecord, webhook: str | None) -> dict[str, str]:
    """Give the fields that are not the request's own: the task that it goes on from, and who is to be called."""
    fields = {"extend_from_task_id": record.parent_task_id, "webhook": webhook}
    return {name: value for name, value in fields.items() if value}


def _news(record: JobRecord, parcel: Parcel | None) -> dict[str, Any]:
    """Give what changes for a body with local files: another body than the one that was refused needs another key."""
    if parcel is None:
        return {}
    is_other = bool(record.sent_as) and record.sent_as != parcel.sent_as
    return {"sent_as": parcel.sent_as} | ({"idempotency_key": new_idempotency_key()} if is_other else {})


def _now() -> float:
    return asyncio.get_running_loop().time()
