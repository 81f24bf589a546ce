"""Webhooks: a finished task is posted to the address its order named."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import SandboxState
    from .tasks import Task


PAUSES = (10.0, 30.0, 60.0)
TIMEOUT = aiohttp.ClientTimeout(total=10)
SCHEMES = ("http://", "https://")


class WebhookSender:
    """Posts the task object to `<base>/callback`; three more tries unless the answer is 2xx or 4xx."""

    def __init__(
        self, session: aiohttp.ClientSession, stage: SandboxState, view: Callable[[Task], dict[str, Any]]
    ) -> None:
        self._session, self._stage, self._view = session, stage, view

    async def send(self, task: Task) -> None:
        """Deliver, if the order wants it, and the faults let it through."""
        base = task.body.webhook
        if base is None or not base.startswith(SCHEMES):
            return
        fault = self._stage.fault_injector.next_fault("webhook")
        if fault == "lost_webhook":
            return
        if fault == "late_webhook":
            await asyncio.sleep(PAUSES[0] / self._stage.settings.speed)
        for _ in range(2 if fault == "twice_webhook" else 1):
            await self._deliver(f"{base.rstrip('/')}/callback", task)

    async def _deliver(self, url: str, task: Task) -> None:
        for pause in (*PAUSES, None):
            status = await self._post(url, task)
            if 200 <= status < 300 or 400 <= status < 500 or pause is None:
                return
            await asyncio.sleep(pause / self._stage.settings.speed)

    async def _post(self, url: str, task: Task) -> int:
        try:
            async with self._session.post(url, json=self._view(task), timeout=TIMEOUT, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            status = 0
        self._stage.record.webhooks.append((task.task_id, url, status))
        return status
