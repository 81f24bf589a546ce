"""What the servers of a sandbox share: settings, record and faults, and how they answer errors or nothing at all."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from .limits import RetryAfter
from .model_specs import served_models
from .replies import ConnectionDropped, ErrorReply, error_reply, invalid_key, parameter_error, rate_limited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .faults import FaultInjector
    from .model_specs import ModelSpec
    from .record import SandboxRecord
    from .settings import SandboxSettings

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# Seconds between two checks whether a client that gets no response has disconnected. aiohttp does not wake a handler
# for that. Half of it would check twice as often for nothing; twice as much would delay the end of a test that hangs
# up by 0.1 s. Chosen, not measured.
DISCONNECT_CHECK_INTERVAL = 0.05
# A key that contains one of these is rejected unless the settings name the only valid key.
INVALID_KEY_WORDS = ("wrong", "invalid")


@dataclass(slots=True)
class SandboxState:
    """The state that the API and the CDN of one sandbox share, within one event loop."""

    settings: SandboxSettings
    record: SandboxRecord
    fault_injector: FaultInjector
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    retry_after: RetryAfter = field(init=False)
    models: Mapping[str, ModelSpec] = field(init=False)  # those that are served, by each of their names

    def __post_init__(self) -> None:
        self.retry_after = RetryAfter(self.settings.retry_after)
        self.models = served_models(self.settings.retired_model)

    @staticmethod
    def now() -> float:
        """Return the time of the event loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    async def add_latency(self) -> None:
        """Wait for the latency of the settings."""
        if self.settings.latency:
            await asyncio.sleep(self.settings.latency)

    async def hang(self, request: web.Request) -> None:
        """Send nothing more until the client disconnects or the sandbox closes, then raise `ConnectionDropped`."""
        while not self.closing.is_set() and request.transport is not None and not request.transport.is_closing():
            with suppress(TimeoutError):
                async with asyncio.timeout(DISCONNECT_CHECK_INTERVAL):
                    await self.closing.wait()
        raise ConnectionDropped

    def too_many_requests(self, delay: float) -> ErrorReply:
        """Return a 429 that asks to wait for `delay` seconds, in the form of the settings."""
        headers, members = self.retry_after.header(delay, time.time()), self.retry_after.members(delay)
        return rate_limited(headers, members)

    @web.middleware
    async def handle_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn the exceptions of handlers into responses, and add a request id to every response."""
        request_id = uuid.uuid4().hex
        try:
            response = await handler(request)
        except ErrorReply as error:
            response = error.response(request_id)
        except ConnectionDropped:
            if request.transport is not None:
                request.transport.close()
            return web.Response()  # never sent: the connection is closed
        except web.RequestPayloadError:
            response = parameter_error("the request body cannot be decoded").response(request_id)
        except web.HTTPRequestEntityTooLarge as error:
            response = error_reply(413, f"request body too large: {error.text}").response(request_id)
        except web.HTTPException:
            response = error_reply(404, f"not found: {request.method} {request.path}").response(request_id)
        if not response.prepared:
            response.headers.setdefault("X-Oneapi-Request-Id", request_id)
        return response


def authenticate(request: web.Request, required_key: str | None) -> str:
    """Return the API key of a request. Raise `ErrorReply` (401, 403) if it is missing or not accepted.

    With a `required_key`, only that one is accepted. Without, the key itself chooses the outcome: a key that contains
    "wrong" or "invalid" gets a 401, one that contains "forbidden" a 403, any other is accepted.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip()
    is_rejected = not key or scheme.lower() != "bearer"
    if required_key is not None:
        is_rejected = is_rejected or key != required_key
    elif any(word in key.lower() for word in INVALID_KEY_WORDS):
        is_rejected = True
    if is_rejected:
        raise invalid_key()
    if required_key is None and "forbidden" in key.lower():
        raise error_reply(403, "this API key may not use this model")
    return key
