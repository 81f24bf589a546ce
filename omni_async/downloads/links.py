"""Where a finished task's videos are: its links, and fresh ones when these no longer work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..api.outcomes import CheckOutcome, classify_check
from ..errors import TransportError

if TYPE_CHECKING:
    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry


_BELIEVED_GONE = 3  # so many times that a task does not exist are believed


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why an attempt has brought no whole clip."""

    reason: str
    needs_url: bool = False  # the next attempt needs a fresh link
    is_final: bool = False  # no attempt can help
    is_gone: bool = False  # final if it is said again and again
    retry_after: float | None = None  # seconds to wait, as the server puts it
    is_of_look: bool = False  # it was asking for a link that failed: that tells nothing about the clip's host

    def is_final_after(self, looks: int) -> bool:
        """Tell whether to give up after so many looks in a row before this one, whatever time is left."""
        return self.is_final or (self.is_gone and looks >= _BELIEVED_GONE)


class UrlRefresher:
    """Asks tasks for the links to their videos. That costs nothing and never causes a submit."""

    def __init__(self, transport: Transport, registry: JobRegistry) -> None:
        self._transport = transport
        self._registry = registry

    def has_expired(self, job: JobState, index: int) -> bool:
        """Tell whether the link to this video says itself that its time is over."""
        assert job.task is not None
        expires_at = job.task.videos[index].expires_at
        return expires_at is not None and expires_at <= self._registry.clock.wall()

    async def refresh(self, job: JobState, index: int = 0) -> AttemptFailure | None:
        """Ask the task for fresh links; None if there is one for this video now."""
        assert job.task_id is not None
        self._registry.totals.count("checks")
        since = _now()
        answer: Response | TransportError
        try:
            answer = await self._transport.check(job.task_id)
        except TransportError as error:
            answer = error
        sight = classify_check(answer, job.task_id, now=self._registry.clock.wall())
        self._registry.events.checked(job, _now() - since, sight.error)
        if isinstance(answer, TransportError):
            return _missed(f"asking the task for its link: {answer}")
        match sight.outcome:
            case CheckOutcome.FINISHED if sight.task is not None and len(sight.task.videos) > index:
                self._registry.record_check(job, sight.task)
                return None
            case CheckOutcome.FAILED | CheckOutcome.DENIED | CheckOutcome.NOT_FOUND as look:
                said = sight.error or (sight.task and sight.task.error) or "the task has failed"
                reason = f"there is no link (any more), and the task gives no other: {said}"
                is_gone = look is CheckOutcome.NOT_FOUND
                return _missed(reason, is_gone=is_gone, is_final=not is_gone)
        return _missed(f"the task names no link: {sight.error or sight.outcome.name}", advice=sight.retry_after)


def _missed(
    reason: str, *, is_gone: bool = False, is_final: bool = False, advice: float | None = None
) -> AttemptFailure:
    return AttemptFailure(
        reason, needs_url=True, is_gone=is_gone, is_final=is_final, retry_after=advice, is_of_look=True
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
