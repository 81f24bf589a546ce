"""What both origins of a sandbox share: settings, record, fault_injector, and how to be silent or leave."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from .limits import RetryAfter
from .replies import ConnectionDropped, ErrorReply, error_reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .faults import FaultInjector
    from .record import SandboxRecord
    from .settings import SandboxSettings

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


SLICE = 0.05  # seconds between two looks whether a silent client has left
RESERVED_WORDS = ("wrong", "invalid")


@dataclass(slots=True)
class SandboxState:
    """Shared state of one sandbox, within one event loop."""

    settings: SandboxSettings
    record: SandboxRecord
    fault_injector: FaultInjector
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    retry_after: RetryAfter = field(init=False)

    def __post_init__(self) -> None:
        self.retry_after = RetryAfter(self.settings.retry_after)

    @staticmethod
    def now() -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    async def add_latency(self) -> None:
        """The latency of the settings."""
        if self.settings.latency:
            await asyncio.sleep(self.settings.latency)

    async def hang(self, request: web.Request) -> None:
        """Say nothing more until the client leaves or the sandbox closes; then drop the connection."""
        while not self.closing.is_set() and request.transport is not None and not request.transport.is_closing():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), SLICE)
        raise ConnectionDropped

    def too_many_requests(self, wait: float) -> ErrorReply:
        """429 with the Retry-After of the settings."""
        headers = self.retry_after.header(wait, time.time())
        return error_reply(429, "too many requests, please try again later", headers)

    @web.middleware
    async def handle_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what handlers raise into responses; every response carries a request id."""
        request_id = uuid.uuid4().hex
        try:
            response = await handler(request)
        except ErrorReply as no:
            response = no.response(request_id)
        except ConnectionDropped:
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        except web.HTTPRequestEntityTooLarge as error:
            response = error_reply(413, f"request body too large: {error.text}").response(request_id)
        except web.HTTPException:
            response = error_reply(404, f"not found: {request.method} {request.path}").response(request_id)
        if not response.prepared:
            response.headers.setdefault("X-Oneapi-Request-Id", request_id)
        return response


def authenticate(request: web.Request, only: str | None) -> str:
    """The API key of a request; raises Refusal (401, 403)."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip()
    wrong = not key or scheme.lower() != "bearer"
    if only is not None:
        wrong = wrong or key != only
    elif any(word in key.lower() for word in RESERVED_WORDS):
        wrong = True
    if wrong:
        raise invalid_key()
    if only is None and "forbidden" in key.lower():
        raise error_reply(403, "this API key may not use this model")
    return key


def invalid_key() -> ErrorReply:
    """401 in the shape that the service was seen to use."""
    message = "invalid API key (request id: <request id>)"
    return ErrorReply(401, {"error": {"code": "", "message": message, "param": "", "type": "apimart_error"}})
