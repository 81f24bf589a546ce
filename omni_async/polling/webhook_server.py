"""The HTTP side of `WebhookReceiver`: an application for the server of the user, or a server of its own.

`create_application` is behind `OmniClient.webhook`, `serve` behind `OmniClient.serve_webhook`. `aiohttp.web` is
imported only when one of them is called, because most programs never use webhooks.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from ..errors import ClientClosed
from ..logs import get_logger
from .webhook_rules import MAX_BODY_BYTES

if TYPE_CHECKING:
    from aiohttp import web

    from .webhook import WebhookReceiver

    Application: TypeAlias = web.Application

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
# What follows the secret in the path of a call: the API adds it to the URL that a submit names.
_LAST_PART = "callback"

_log = get_logger(__name__)


def create_application(webhook: WebhookReceiver) -> Application:
    """Return an aiohttp.web sub-application that answers `POST /<secret>/callback`."""
    from aiohttp import web  # noqa: PLC0415 - importing the server takes time that only users of webhooks should spend

    calls = _Calls(webhook)

    async def callback(request: web.Request) -> web.Response:
        return await calls.answer(request, request.match_info["secret"])

    app = web.Application()
    app.router.add_post(f"/{{secret}}/{_LAST_PART}", callback)
    return app


async def serve(webhook: WebhookReceiver, host: str, port: int) -> int:
    """Answer `POST .../<secret>/callback` at an address until the receiver is closed; return the port.

    Whatever stands before the secret is accepted: a proxy may pass on the path of the public URL or remove it. Raise
    `OSError` if the address is not available, and `ClientClosed` if the receiver is closed meanwhile.
    """
    from ..listening import BoundedServer  # noqa: PLC0415 - as above

    calls = _Calls(webhook)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        with server.answering(request):
            response = await _answer_path(calls, request)
            await response.prepare(request)
            await response.write_eof()  # here, because the connection may be closed in favour of others from now on
            return response

    server = BoundedServer(handle)
    try:
        chosen = await server.listen(host, port)
        if not webhook.add_server(server):
            raise ClientClosed("the client was closed before it listened for webhooks")
    except BaseException:
        await server.aclose(0)
        raise
    return chosen


async def _answer_path(calls: _Calls, request: web.BaseRequest) -> web.Response:
    from aiohttp import web  # noqa: PLC0415 - as above

    _, secret, last = ["", "", *request.path.rsplit("/", 2)][-3:]
    if last != _LAST_PART:
        return await _finish(request, web.Response(status=404))
    if request.method != "POST":
        return await _finish(request, web.Response(status=405, headers={"Allow": "POST"}))
    return await calls.answer(request, secret)


class _Calls:
    """Answers the calls of one application or server."""

    def __init__(self, webhook: WebhookReceiver) -> None:
        self._webhook = webhook
        self._being_read: set[object] = set()  # their connections

    async def answer(self, request: web.BaseRequest, secret: str) -> web.Response:
        """Answer a call to the path with this secret."""
        from aiohttp import web  # noqa: PLC0415 - as above

        status = self._webhook.authorize(secret)
        if status is None and len(self._being_read) >= _MAX_BEING_READ:
            status = 503
        if status is None:
            self._being_read.add(request.protocol)
            try:
                body = await _read(request)
            finally:
                self._being_read.discard(request.protocol)
            status = self._webhook.handle_call(body) if isinstance(body, bytes) else body
        return await _finish(request, web.Response(status=status))


async def _finish(request: web.BaseRequest, response: web.Response) -> web.Response:
    """Return the response; if the body was not read to its end, send it and close the connection."""
    if not request.content.at_eof():
        await _send_and_close(request, response)
    return response


async def _read(request: web.BaseRequest) -> bytes | int:
    """Return the body, or the HTTP status that rejects it. The server around the application may allow larger ones."""
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


async def _send_and_close(request: web.BaseRequest, response: web.Response) -> None:
    """Answer a call whose body was not read to its end, and close its connection.

    The server around the application would read the rest for as long as it likes, and log one that it cannot decode as
    a fault of the program. Some of it is read here, because a caller may miss an answer that arrives while it is
    sending.
    """
    response.force_close()
    with suppress(Exception):  # the caller is gone, or the rest cannot be decoded: no answer would arrive
        await response.prepare(request)
        await response.write_eof()
        if "Content-Encoding" not in request.headers:  # decoding costs more than it is worth
            async with asyncio.timeout(_SKIP_TIMEOUT):
                async for _ in request.content.iter_any():
                    pass
    request.protocol.force_close()
