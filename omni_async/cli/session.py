"""What every command needs around its work: an event loop, Ctrl-C, an open client, and errors in plain words."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from omni_async import (
    AuthenticationError,
    InvalidRequest,
    LedgerError,
    NotFound,
    OmniClient,
    OmniError,
    Retry,
    TransportError,
)

from .exit_status import ExitStatus, UsageError
from .garbage import leave_out_imported
from .interrupt import INTERRUPTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ..sandbox import SandboxProcess
    from .options import ServerOptions
    from .output import Output


_NO_KEY = (
    "Get one at https://apimart.ai/keys, then: export APIMART_API_KEY=...",
    "(to try it without a key, add --sandbox)",
)
_NOT_READ = "The file .env names one, but it is not read. To use it: set -a; . ./.env; set +a"


# A person waits for the answer: give up sooner than a batch does (300 s). 8 s still cover a dropped connection and
# four retries with backoff; 4 s would report a slow network as broken. Chosen, not measured.
INTERACTIVE_RETRY = Retry(timeout=8.0)

TOP_UP = "top up the account at https://apimart.ai"


def run_command(work: Callable[[], Awaitable[ExitStatus]], output: Output) -> ExitStatus:
    """Run a command's work in a new event loop until it is done or interrupted, and return the exit status."""
    with output.show_log():
        try:
            return anyio.run(_run_until_interrupted, work, output)
        except UsageError as error:
            for line in error.args:
                output.error(line)
            return ExitStatus.USAGE
        except OmniError as error:
            output.error(describe(error))
            return ExitStatus.USAGE if isinstance(error, (InvalidRequest, NotFound)) else ExitStatus.STOPPED


async def _run_until_interrupted(work: Callable[[], Awaitable[ExitStatus]], output: Output) -> ExitStatus:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:

        def stop() -> None:
            output.note("stopping (press Ctrl-C again to exit immediately)")
            scope.cancel()

        with INTERRUPTS.call_first(lambda: loop.call_soon_threadsafe(stop)):
            return await work()
    return ExitStatus.INTERRUPTED


@asynccontextmanager
async def open_client(
    server: ServerOptions, *, ledger: Path | None = None, **settings: Any
) -> AsyncIterator[OmniClient]:
    """Open a client for the server that the options select; a private sandbox lives as long as the client.

    Clips go to the folder of the ledger. Raise `UsageError` if the client cannot be opened.
    """
    if ledger is not None:
        settings["output_dir"] = ledger.parent
    async with AsyncExitStack() as stack:
        base_url, key = server.base_url, None
        settings["connection"] = server.connection()
        if server.sandbox:
            sandbox = await stack.enter_async_context(_private_sandbox())
            base_url, key = sandbox.base_url, sandbox.api_key
        try:
            client = OmniClient(key, base_url=base_url, ledger=ledger, **settings)
            if ledger is not None:
                await anyio.to_thread.run_sync(_check_writable, ledger.parent)
            await stack.enter_async_context(client)
            leave_out_imported()
        except AuthenticationError as error:
            raise UsageError(str(error), *_ways_to_a_key()) from None
        except (ValueError, OSError, LedgerError) as error:
            raise UsageError(str(error)) from None
        yield client


def _ways_to_a_key() -> list[str]:
    """Return what to do about a missing key; nothing if there is one, whose error says what is wrong with it."""
    if os.environ.get("APIMART_API_KEY", "").strip():
        return []
    with suppress(OSError, ValueError), Path(".env").open(encoding="utf-8") as file:
        if any("APIMART_API_KEY" in line for line in islice(file, 1000)):
            return [_NOT_READ, _NO_KEY[1]]
    return [*_NO_KEY]


def _check_writable(folder: Path) -> None:
    """Create the folder. Raise `UsageError` unless files can be written there: no clip is paid for and then lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        is_taken = isinstance(error, FileExistsError)
        reason = "it is a file or a broken link, not a folder" if is_taken else error.strerror or str(error)
        raise UsageError(f"-o {folder}: cannot store clips there: {reason}") from None


@asynccontextmanager
async def _private_sandbox() -> AsyncIterator[SandboxProcess]:
    from ..sandbox import SandboxProcess  # noqa: PLC0415 - it imports a web server, which few commands need

    async with AsyncExitStack() as stack:
        try:
            process = await stack.enter_async_context(SandboxProcess(foreign_parents=True))
        except (RuntimeError, OSError) as error:
            raise UsageError(*f"the sandbox could not be started: {error}".splitlines()) from None
        yield process


def describe(error: OmniError) -> str:
    """Return what went wrong and what to do about it; for a failed connection also where its address comes from."""
    if isinstance(error, TransportError):
        return f"{error}. The address is set with --base-url or APIMART_BASE_URL"
    return str(error)
