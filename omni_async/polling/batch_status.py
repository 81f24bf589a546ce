"""Asks about many tasks at once, for as long as the answers are what is hoped for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import TransportError
from . import batch_answers as statuses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..api.transport import Transport
    from ..jobs.registry import JobRegistry
    from ..settings import Polling
    from .batch_answers import Answer


_PATH = "/v1/tasks/batch"
_SILENCES = 3  # in a row, and it is given up

_log = logging.getLogger("omni_async.poller")


class BatchStatus:
    """One question about all that are due soon. Once given up, it stays so: single checks always work."""

    def __init__(self, transport: Transport, registry: JobRegistry, polling: Polling) -> None:
        self._transport = transport
        self._registry = registry
        self.is_on = polling.batch_status
        self._silences = 0

    async def ask(self, task_ids: Sequence[str]) -> Answer:
        """Ask how many tasks stand."""
        self._registry.count("checks")
        try:
            reply = await self._transport.get(_PATH, statuses.encode(task_ids))
        except TransportError as error:
            answer = statuses.judge(error, task_ids, now=self._registry.wall())
        else:
            answer = statuses.judge(reply, task_ids, now=self._registry.wall())
        self._judge(answer)
        return answer

    def _judge(self, answer: Answer) -> None:
        self._silences = self._silences + 1 if answer.is_silent and not answer.is_limit else 0
        if self.is_on and (answer.is_odd or self._silences >= _SILENCES):
            self.is_on = False
            _log.warning("batch status is given up, jobs are checked singly: %s", answer.error or "an odd answer")
