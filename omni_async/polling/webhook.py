"""`WebhookReceiver`: receives webhook calls in an aiohttp.web application that users mount in their own server.

`OmniClient.webhook` enables it and returns the application. A call is a hint and no more: it carries no signature, so
the receiver passes on the task id, and the poller checks that task. `aiohttp.web` is imported only when an application
is created, because most programs never use webhooks.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from ..logs import get_logger
from .webhook_rules import MAX_BODY_BYTES, parse_call, validate_callback_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.store import JobStore

    Application: TypeAlias = web.Application

# The ledger keeps the secret under this name, so calls for jobs of earlier runs arrive at the same path.
_FACT_NAME = "webhook"
# Seconds within which the body of a call must arrive. It limits how long a forged call holds a connection open. The API
# waits no longer than this for the answer, so more would help no genuine call; half would still be ample for 1,000
# bytes.
_READ_TIMEOUT = 10.0
# Seconds for which the rest of a rejected body is skipped before the connection is closed. At half, slow callers miss
# the answer; at double, a forged call holds its connection for longer.
_SKIP_TIMEOUT = 1.0
# Calls whose bodies are read at the same time; more get 503, and the API calls again. Each may use `MAX_BODY_BYTES`.
# At half, a burst of genuine calls is put off; at double, callers who know the path may use 8 MB.
_MAX_BEING_READ = 64

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


def create_application(webhook: WebhookReceiver) -> Application:
    """Return an aiohttp.web sub-application that answers `POST /<secret>/callback`."""
    from aiohttp import web  # noqa: PLC0415 - importing the server takes time that only users of webhooks should spend

    being_read: set[object] = set()  # the connections of calls

    async def callback(request: web.Request) -> web.Response:
        status = webhook.authorize(request.match_info["secret"])
        if status is None and len(being_read) >= _MAX_BEING_READ:
            status = 503
        if status is None:
            being_read.add(request.protocol)
            try:
                body = await _read(request)
            finally:
                being_read.discard(request.protocol)
            status = webhook.handle_call(body) if isinstance(body, bytes) else body
        response = web.Response(status=status)
        if not request.content.at_eof():
            await _send_and_close(request, response)
        return response

    app = web.Application()
    app.router.add_post("/{secret}/callback", callback)
    return app


async def _read(request: web.Request) -> bytes | int:
    """Return the body, or the HTTP status that rejects it. The server around this application may allow larger ones."""
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
    except (RequestPayloadError, ConnectionError) as error:  # not what its headers say, or the caller is gone
        _log.debug("the body of a webhook call could not be read: %s", type(error).__name__)
        return 400
    return bytes(body)


async def _send_and_close(request: web.Request, response: web.Response) -> None:
    """Answer a call whose body was not read to its end, and close its connection.

    The server around this application would read the rest for as long as it likes, and log one that it cannot decode
    as a fault of the program. Some is read here, because a caller may miss an answer that comes while it sends.
    """
    response.force_close()
    with suppress(Exception):  # the caller is gone, or the rest cannot be decoded: there is nobody to tell
        await response.prepare(request)
        await response.write_eof()
        if "Content-Encoding" not in request.headers:  # decoding costs more than it is worth
            async with asyncio.timeout(_SKIP_TIMEOUT):
                async for _ in request.content.iter_any():
                    pass
    request.protocol.force_close()
