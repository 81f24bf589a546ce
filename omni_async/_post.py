"""One POST: recorded as being sent, sent, and judged."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from ._core import wire
from ._core.errors import LedgerError, TransportError
from ._core.lifecycle import JobStatus
from ._core.retry import Judgement, is_remembered, judge_submit

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._job import Job
    from ._ports import Transport
    from ._roster import Roster

_log = logging.getLogger("omni_async.submitter")


@dataclass(slots=True)
class OnWire:
    """A POST that is on its way, since then; what has been sent must be recorded, so it is shielded."""

    since: float
    scope: anyio.CancelScope = field(default_factory=lambda: anyio.CancelScope(shield=True))


class Post:
    """Sends submits one by one; who may be sent when is decided elsewhere."""

    def __init__(self, transport: Transport, roster: Roster) -> None:
        self._transport = transport
        self._roster = roster

    async def record(self, job: Job) -> None:
        """Make it durable that this job is now being sent. Raises `LedgerError`: then it must not be."""
        submits, is_in_doubt = job._record.submits + 1, job.status is not JobStatus.WAITING
        if is_in_doubt:  # what counts is when the server may have heard of this idempotency key first
            change = self._roster.note(job, submits=submits)
        else:
            now = self._roster.wall()
            change = self._roster.move(job, JobStatus.SUBMITTING, submits=submits, submitted_at=now)
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
        if is_in_doubt:
            return self._roster.note(job, submits=submits)
        return self._roster.move(job, JobStatus.WAITING, submits=submits)

    async def send(self, job: Job) -> Judgement:
        """Send it, and tell what became of it."""
        assert job.request is not None, "a job without a request is never in the line"
        body = job.request.body()
        if job._record.parent_task_id:
            body["extend_from_task_id"] = job._record.parent_task_id
        since = _now()
        try:
            reply = await self._transport.submit(wire.encode(body), job._record.idempotency_key)
        except TransportError as error:
            judgement = judge_submit(error, now=self._roster.wall())
        except BaseException as cut:
            self._roster.events.submitted(job, _now() - since, cut)
            raise
        else:
            judgement = judge_submit(reply, now=self._roster.wall())
        self._roster.events.submitted(job, _now() - since, judgement.error)
        if judgement.error is not None:
            _log.info("job %r: submit %s: %s", job.key, judgement.verdict.name.lower(), judgement.error)
        return judgement


def _now() -> float:
    return asyncio.get_running_loop().time()
