"""Webhook calls: a finished task is posted to the URL that its request named."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import SandboxState
    from .tasks import Task


RETRY_DELAYS = (10.0, 30.0, 60.0)  # seconds, from the webhook page of the service; divided by the speed
TIMEOUT = aiohttp.ClientTimeout(total=10)  # seconds, from the same page
SCHEMES = ("http://", "https://")


class WebhookSender:
    """Posts the task object to `<base>/callback`, with three retries unless the response is a 2xx or 4xx.

    `to_json` is called for each attempt and returns the task object.
    """

    def __init__(
        self, session: aiohttp.ClientSession, state: SandboxState, to_json: Callable[[Task], dict[str, Any]]
    ) -> None:
        self._session, self._state, self._to_json = session, state, to_json

    async def send(self, task: Task) -> None:
        """Deliver a task if its request names a webhook and no fault prevents it."""
        base = task.body.webhook
        if base is None or not base.startswith(SCHEMES):
            return
        fault = self._state.fault_injector.next_fault("webhook")
        if fault == "lost_webhook":
            return
        if fault == "late_webhook":
            await asyncio.sleep(RETRY_DELAYS[0] / self._state.settings.speed)
        for _ in range(2 if fault == "twice_webhook" else 1):
            await self._deliver(f"{base.rstrip('/')}/callback", task)

    async def _deliver(self, url: str, task: Task) -> None:
        for delay in (*RETRY_DELAYS, None):
            status = await self._post(url, task)
            if 200 <= status < 300 or 400 <= status < 500 or delay is None:
                return
            await asyncio.sleep(delay / self._state.settings.speed)

    async def _post(self, url: str, task: Task) -> int:
        """Return the HTTP status, 0 if there was no response."""
        body = self._to_json(task)
        try:
            async with self._session.post(url, json=body, timeout=TIMEOUT, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            status = 0
        self._state.record.webhooks.append((task.task_id, url, status))
        return status
