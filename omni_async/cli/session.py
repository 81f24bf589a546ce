"""From a command to its exit status: opens the client, minds Ctrl-C, and turns errors into plain words."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from omni_async import (
    AuthenticationError,
    InvalidRequest,
    LedgerLocked,
    NotFound,
    OmniClient,
    OmniError,
    TransportError,
)
from omni_async.sandbox import SandboxProcess

from .interrupt import INTERRUPTS
from .status import Misuse, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .options import Server
    from .output import Output

_NO_KEY = (
    "there is no API key. Get one at https://apimart.ai/keys, then: export APIMART_API_KEY=...",
    "(or try it without one: --sandbox)",
)


def start(work: Callable[[], Awaitable[Status]], output: Output) -> Status:
    """Run a command's work in an event loop of its own, until it is done or interrupted."""
    with output.logging():
        try:
            return anyio.run(_until_interrupted, work, output)
        except Misuse as misuse:
            for line in misuse.args:
                output.problem(line)
            return Status.USAGE
        except OmniError as error:
            output.problem(in_words(error))
            is_input = isinstance(error, (InvalidRequest, NotFound, LedgerLocked))
            return Status.USAGE if is_input else Status.STOPPED


async def _until_interrupted(work: Callable[[], Awaitable[Status]], output: Output) -> Status:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:

        def stop() -> None:
            output.note("stopping (Ctrl-C once more ends at once)")
            scope.cancel()

        with INTERRUPTS.asking(lambda: loop.call_soon_threadsafe(stop)):
            return await work()
    return Status.INTERRUPTED


@asynccontextmanager
async def client_for(server: Server, **settings: Any) -> AsyncIterator[OmniClient]:
    """Open a client to whom the options name; a private sandbox lives as long as the client.

    Raises `Misuse` for whatever keeps it from being opened.
    """
    async with AsyncExitStack() as stack:
        base_url, key = server.base_url, None
        if server.sandbox:
            sandbox = await stack.enter_async_context(_started_sandbox())
            base_url, key = sandbox.base_url, sandbox.api_key
        try:
            client = await stack.enter_async_context(OmniClient(key, base_url=base_url, **settings))
        except AuthenticationError as error:
            raise Misuse(*_NO_KEY if not os.environ.get("APIMART_API_KEY", "").strip() else [str(error)]) from None
        except (ValueError, OSError) as error:
            raise Misuse(str(error)) from None
        yield client


@asynccontextmanager
async def _started_sandbox() -> AsyncIterator[SandboxProcess]:
    async with AsyncExitStack() as stack:
        try:
            process = await stack.enter_async_context(SandboxProcess())
        except (RuntimeError, OSError) as error:
            raise Misuse(f"the sandbox does not start: {error}") from None
        yield process


def in_words(error: OmniError) -> str:
    """Give what went wrong and what to do about it; most errors say so themselves."""
    is_mute = isinstance(error, TransportError)
    return f"{error}. Check the network and the address (--base-url, APIMART_BASE_URL)" if is_mute else str(error)
