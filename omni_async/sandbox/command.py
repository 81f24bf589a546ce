"""Serving until a signal, or, in the child that `SandboxProcess` starts, until the parent closes its stdin."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..plain_text import one_line
from .server import Sandbox
from .settings import SandboxSettings

# Seconds that a child gets to close after its parent has ended, before it exits without closing. No process is left to
# kill it then. The same as `process.EXIT_TIMEOUT`, and far more than closing takes.
EXIT_TIMEOUT = 5.0

OnReady = Callable[[Sandbox], None]


def main() -> int:
    """Serve with the settings that the only argument gives as JSON, until stdin ends, and return the exit status.

    It is the program of the child: `omni-async sandbox` is the one for people.
    """
    if len(sys.argv) != 2 or not sys.argv[1].startswith("{"):
        print("this is the program of a child process; for people there is: omni-async sandbox", file=sys.stderr)  # noqa: T201
        return 2
    try:
        settings = SandboxSettings(**json.loads(sys.argv[1]))
        asyncio.run(serve(settings, on_ready=_print_json, until_eof=True))
    except (OSError, ModuleNotFoundError) as error:
        print(f"sandbox: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def serve(settings: SandboxSettings, *, on_ready: OnReady | None = None, until_eof: bool = False) -> None:
    """Serve until SIGINT or SIGTERM; with `until_eof`, also until stdin ends.

    `on_ready` is called once, when the sandbox serves; by default its addresses are printed.
    """
    stop = asyncio.Event()
    if until_eof:
        _stop_on_eof(stop)
    with _stop_on_signals(stop):
        async with Sandbox(settings) as sandbox:
            (on_ready or _print_addresses)(sandbox)
            await stop.wait()


def _print_addresses(sandbox: Sandbox) -> None:
    line = f"sandbox: {sandbox.base_url}  clips: {sandbox.cdn_url}  key: {sandbox.api_key}  (stop with Ctrl-C)"
    print(line)  # noqa: T201
    trusted = [("SSL_CERT_FILE", sandbox.settings.cert)] if sandbox.settings.cert else []
    for name, value in (("APIMART_BASE_URL", sandbox.base_url), ("APIMART_API_KEY", sandbox.api_key), *trusted):
        print(f"export {name}={shlex.quote(value)}", flush=True)  # noqa: T201


def _print_json(sandbox: Sandbox) -> None:
    addresses = {"base_url": sandbox.base_url, "cdn_url": sandbox.cdn_url, "api_key": sandbox.api_key}
    print(json.dumps(addresses), flush=True)  # noqa: T201


@contextmanager
def _stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python allows signal handlers in the main thread only. Elsewhere, cancelling `serve` stops it.
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop_on_eof(stop: asyncio.Event) -> None:
    """Set the event when stdin ends, which is when the parent closes it or dies."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        # os.read, not sys.stdin: a daemon thread must not hold a lock that the end of the interpreter needs.
        while os.read(0, 1024):
            pass
        with suppress(RuntimeError):  # the loop is closed: the process is about to exit
            loop.call_soon_threadsafe(stop.set)
        time.sleep(EXIT_TIMEOUT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="sandbox-until-eof").start()
