"""The part of somebody's aiohttp.web server that takes webhooks. Imported only where one is asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.web import Application

from ._core.webhooks import LARGEST_CALL

if TYPE_CHECKING:
    from ._webhook import Webhook

__all__ = ["Application", "application"]

_PATIENCE = 10.0  # seconds in which a call must have arrived; the server waits no longer for an answer


def application(webhook: Webhook) -> Application:
    """Give a sub-application that answers `POST /<secret>/callback`."""

    async def callback(request: web.Request) -> web.Response:
        status = webhook.greet(request.match_info["secret"])
        if status is None:
            body = await _read(request)
            status = webhook.hear(body) if isinstance(body, bytes) else body
        response = web.Response(status=status)
        if not request.content.at_eof():
            response.force_close()  # what it still has to say is not wanted
        return response

    app = Application()
    app.router.add_post("/{secret}/callback", callback)
    return app


async def _read(request: web.Request) -> bytes | int:
    """Give the body, or the HTTP status that says why it is not taken; the server around this may allow more."""
    if (request.content_length or 0) > LARGEST_CALL:
        return 413
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > LARGEST_CALL:
                    return 413
    except TimeoutError:
        return 408
    except web.RequestPayloadError:
        return 400
    return bytes(body)
