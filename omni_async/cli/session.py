"""From a command to its exit status: opens the client, minds Ctrl-C, and turns errors into plain words."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from omni_async import AuthenticationError, InvalidRequest, LedgerError, NotFound, OmniClient, OmniError, TransportError

from ..sandbox import SandboxProcess
from .exit_status import ExitStatus, UsageError
from .interrupt import INTERRUPTS
from .output import harmless

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from .options import ServerOptions
    from .output import Output


_NO_KEY = (
    "there is no API key. Get one at https://apimart.ai/keys, then: export APIMART_API_KEY=...",
    "(or try it without one: --sandbox)",
)


def start(work: Callable[[], Awaitable[ExitStatus]], output: Output) -> ExitStatus:
    """Run a command's work in an event loop of its own, until it is done or interrupted."""
    with output.logging():
        try:
            return anyio.run(_until_interrupted, work, output)
        except UsageError as misuse:
            for line in misuse.args:
                output.problem(line)
            return ExitStatus.USAGE
        except OmniError as error:
            output.problem(describe(error))
            return ExitStatus.USAGE if isinstance(error, (InvalidRequest, NotFound)) else ExitStatus.STOPPED


async def _until_interrupted(work: Callable[[], Awaitable[ExitStatus]], output: Output) -> ExitStatus:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:

        def stop() -> None:
            output.note("stopping (Ctrl-C once more ends at once)")
            scope.cancel()

        with INTERRUPTS.asking(lambda: loop.call_soon_threadsafe(stop)):
            return await work()
    return ExitStatus.INTERRUPTED


@asynccontextmanager
async def client_for(
    server: ServerOptions, *, ledger: Path | None = None, **settings: Any
) -> AsyncIterator[OmniClient]:
    """Open a client to whom the options name; a private sandbox lives as long as the client.

    Clips go to the folder of the ledger. Raises `Misuse` for whatever keeps it from being opened.
    """
    if ledger is not None:
        settings["output_dir"] = ledger.parent
    async with AsyncExitStack() as stack:
        base_url, key = server.base_url, None
        settings["connection"] = server.connection()
        if server.sandbox:
            sandbox = await stack.enter_async_context(_started_sandbox())
            base_url, key = sandbox.base_url, sandbox.api_key
        try:
            client = OmniClient(key, base_url=base_url, ledger=ledger, **settings)
            if ledger is not None:
                await anyio.to_thread.run_sync(_make_ready, ledger.parent)
            await stack.enter_async_context(client)
        except AuthenticationError as error:
            raise UsageError(*_NO_KEY if not os.environ.get("APIMART_API_KEY", "").strip() else [str(error)]) from None
        except (ValueError, OSError, LedgerError) as error:
            raise UsageError(harmless(str(error))) from None
        yield client


def _make_ready(folder: Path) -> None:
    """Raise `Misuse` unless a file can be written there: nothing is bought that cannot be stored."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"-o {folder}: no clip can be stored there: {error.strerror or error}") from None


@asynccontextmanager
async def _started_sandbox() -> AsyncIterator[SandboxProcess]:
    async with AsyncExitStack() as stack:
        try:
            process = await stack.enter_async_context(SandboxProcess(foreign_parents=True))
        except (RuntimeError, OSError) as error:
            raise UsageError(f"the sandbox does not start: {error}") from None
        yield process


def describe(error: OmniError) -> str:
    """Give what went wrong and what to do about it; most errors say so themselves."""
    is_mute = isinstance(error, TransportError)
    return f"{error}. Check the network and the address (--base-url, APIMART_BASE_URL)" if is_mute else str(error)
