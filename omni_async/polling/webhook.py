"""`WebhookReceiver`: receives webhook calls, which `webhook_server` reads from HTTP connections.

`OmniClient.webhook` and `OmniClient.serve_webhook` enable it. A call is only a hint: it carries no signature, so the
receiver passes on the task id, and the poller checks that task.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from ..logs import get_logger
from .webhook_rules import parse_call, validate_callback_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.store import JobStore
    from ..listening import BoundedServer

# The ledger keeps the secret under this name, so calls for jobs of earlier runs arrive at the same path.
_FACT_NAME = "webhook"
# Seconds that answers in progress get when a server stops. An answer takes milliseconds, once its call has arrived; the
# API repeats a call without one. At double, a half-sent call delays the end of the client by another half second.
_SHUTDOWN_TIMEOUT = 0.5

_log = get_logger(__name__)


class WebhookReceiver:
    """Receives webhook calls once it is enabled with a public URL, and while its client is open.

    The path of its URL ends with a random secret. That keeps random callers out, and proves nothing about a call:
    access logs and the API know it. `server` is the base URL of the API.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._public_url: str | None = None
        self._secret: str | None = None
        self._store: JobStore | None = None
        self._on_call: Callable[[str], None] | None = None  # None unless the client is open
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[BoundedServer] = []

    def __repr__(self) -> str:
        return f"<WebhookReceiver {self._public_url or 'off'}>"

    def enable(self, public_url: str) -> None:
        """Let submits name this URL from now on.

        Raise `ValueError` for a URL that the API would not call, and for a second one.
        """
        url = validate_callback_url(public_url, self._server)
        if self._public_url not in {None, url}:
            raise ValueError(f"webhook({public_url!r}): this client already has a webhook at {self._public_url}")
        self._public_url = url
        if self._store is not None and self._secret is None:
            self._store.set_fact(_FACT_NAME, self._new_secret())

    async def open(self, store: JobStore, on_call: Callable[[str], None]) -> None:
        """Accept calls from now on. `on_call` is called with the id of each task that a call names.

        It is called in the event loop that is running now. Raise `LedgerError` if the secret cannot be read or saved.
        """
        self._secret = await store.get_fact(_FACT_NAME)
        if self._secret is None and self._public_url is not None:
            await store.set_fact(_FACT_NAME, self._new_secret())
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._on_call = on_call

    def close(self) -> None:
        """Answer 503 to every call from now on."""
        self._store = self._on_call = None

    def add_server(self, server: BoundedServer) -> bool:
        """Take ownership of a server that passes calls on: `aclose` stops it. Return False if already closed."""
        if self._on_call is None:
            return False
        self._servers.append(server)
        return True

    async def aclose(self) -> None:
        """Stop the servers that were added; no further call is answered."""
        self.close()
        while self._servers:
            await self._servers.pop().aclose(_SHUTDOWN_TIMEOUT)

    def url_for(self, job: JobState) -> str | None:
        """Return the URL that the submit of a job names. None if webhooks are off or the request names its own."""
        url = self._url
        if url is None or (request := job.request) is None:
            return None
        return None if "webhook" in request.extra else url

    def expects(self, record: JobRecord) -> bool:
        """Return whether a call for this job would arrive here."""
        return record.webhook is not None and record.webhook == self._url

    def authorize(self, secret: str) -> int | None:
        """Return the HTTP status that rejects a call before its body is read, None if the call is accepted."""
        if self._on_call is None or self._secret is None:
            return 503  # the client is not open; the API calls again later
        return None if secrets.compare_digest(secret.encode("utf-8", "replace"), self._secret.encode()) else 404

    def handle_call(self, body: bytes) -> int:
        """Pass on the task id that the body of a call names. Return the HTTP status of the answer."""
        task_id = parse_call(body)
        if task_id is None:
            _log.debug("webhook call names no task (%d bytes)", len(body))
            return 400
        on_call, loop = self._on_call, self._loop
        if on_call is not None and loop is asyncio.get_running_loop():
            on_call(task_id)
        elif on_call is not None and loop is not None:  # the user's server runs in the event loop of another thread
            with suppress(RuntimeError):  # the client's loop was closed a moment ago
                loop.call_soon_threadsafe(on_call, task_id)
        return 204

    @property
    def _url(self) -> str | None:
        return f"{self._public_url}/{self._secret}" if self._public_url and self._secret else None

    def _new_secret(self) -> str:
        self._secret = secrets.token_urlsafe(24)
        return self._secret
