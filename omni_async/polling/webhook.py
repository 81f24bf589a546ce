"""`WebhookReceiver`: receives webhook calls, in an aiohttp.web application that users mount in their own server.

`aiohttp.web` is imported only when an application is made: most programs never use webhooks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from .webhook_rules import MAX_BODY_BYTES, parse_call, validate_callback_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.store import JobStore

    Application: TypeAlias = web.Application

_FACT_NAME = "webhook"  # under this name the ledger keeps the secret: hooks of earlier runs come to the same path

_log = logging.getLogger(__name__)


class WebhookReceiver:
    """Off until it is told an address. The secret in its path keeps strangers out; it is no proof of anything."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._public_url: str | None = None
        self._secret: str | None = None
        self._store: JobStore | None = None
        self._on_call: Callable[[str], None] | None = None  # while the client is open
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Webhook {self._public_url or 'off'}>"

    def enable(self, public_url: str) -> None:
        """Let submits name this address from now on. Raises `ValueError` for one that the server would not call."""
        address = validate_callback_url(public_url, self._server)
        if self._public_url not in {None, address}:
            raise ValueError(f"webhook({public_url!r}): this client has one at {self._public_url} already")
        self._public_url = address
        if self._store is not None and self._secret is None:
            self._store.set_fact(_FACT_NAME, self._new_secret())

    async def open(self, store: JobStore, on_call: Callable[[str], None]) -> None:
        """Begin to listen: `hint` is called with the id of each task that a call names. Raises `LedgerError`."""
        self._secret = await store.get_fact(_FACT_NAME)
        if self._secret is None and self._public_url is not None:
            await store.set_fact(_FACT_NAME, self._new_secret())
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._on_call = on_call

    def close(self) -> None:
        """Listen no more."""
        self._store = self._on_call = None

    def url_for(self, job: JobState) -> str | None:
        """Give what a submit of this job names; None where webhooks are off, or the user names an own one."""
        address = self._url
        if address is None or (request := job.request) is None:
            return None
        return None if "webhook" in request.extra else address

    def expects(self, record: JobRecord) -> bool:
        """Tell whether a hook for this job would come here."""
        return record.webhook is not None and record.webhook == self._url

    def authorize(self, secret: str) -> int | None:
        """Give the HTTP status with which a caller is sent away before its call is read; None if it may speak."""
        if self._on_call is None or self._secret is None:
            return 503  # not open, or no more: the server tries again later
        return None if secrets.compare_digest(secret.encode("utf-8", "replace"), self._secret.encode()) else 404

    def handle_call(self, body: bytes) -> int:
        """Take a call's body for a hint, and nothing more; give the HTTP status of the answer."""
        task_id = parse_call(body)
        if task_id is None:
            _log.debug("a webhook named no task (%d bytes)", len(body))
            return 400
        hint, loop = self._on_call, self._loop
        if hint is not None and loop is asyncio.get_running_loop():
            hint(task_id)
        elif hint is not None and loop is not None:  # the user's server runs in another thread
            with suppress(RuntimeError):  # its loop has just been closed
                loop.call_soon_threadsafe(hint, task_id)
        return 204

    @property
    def _url(self) -> str | None:
        return f"{self._public_url}/{self._secret}" if self._public_url and self._secret else None

    def _new_secret(self) -> str:
        self._secret = secrets.token_urlsafe(24)
        return self._secret


_READ_TIMEOUT = 10.0  # seconds in which a call must have arrived; the server waits no longer for an answer


def create_application(webhook: WebhookReceiver) -> Application:
    """Give a sub-application that answers `POST /<secret>/callback`."""
    from aiohttp import web  # noqa: PLC0415 - loading the server takes time that only users of webhooks should pay

    async def callback(request: web.Request) -> web.Response:
        status = webhook.authorize(request.match_info["secret"])
        if status is None:
            body = await _read(request)
            status = webhook.handle_call(body) if isinstance(body, bytes) else body
        response = web.Response(status=status)
        if not request.content.at_eof():
            response.force_close()  # what it still has to say is not wanted
        return response

    app = web.Application()
    app.router.add_post("/{secret}/callback", callback)
    return app


async def _read(request: web.Request) -> bytes | int:
    """Give the body, or the HTTP status that says why it is not taken; the server around this may allow more."""
    from aiohttp.web import RequestPayloadError  # noqa: PLC0415 - as above

    if (request.content_length or 0) > MAX_BODY_BYTES:
        return 413
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_TIMEOUT):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    return 413
    except TimeoutError:
        return 408
    except RequestPayloadError:
        return 400
    return bytes(body)
