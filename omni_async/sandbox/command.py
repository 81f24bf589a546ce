"""The command line of the sandbox: an option for every setting, and serving until a signal.

It is `omni-async sandbox`, `python -m omni_async.sandbox`, and the program of the child that `SandboxProcess` starts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from typing import Any, NoReturn

from ..plain_text import one_line
from .faults import FAULTS
from .server import Sandbox
from .settings import CHOICES, SandboxSettings

# Seconds that a child gets to close after its parent has ended, before it exits without closing. No process is left to
# kill it then. The same as `process.EXIT_TIMEOUT`, and far more than closing takes.
EXIT_TIMEOUT = 5.0

OnReady = Callable[[Sandbox], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, serve, and return the exit status. The default is `sys.argv`."""
    parser = _parser()
    args = vars(parser.parse_args(argv))
    child = args.pop("child")
    if args["fault"] == ["list"]:
        print(fault_table())  # noqa: T201
        return 0
    try:
        settings = SandboxSettings(**json.loads(child)) if child else _settings(args)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    try:
        on_ready = _print_json if child else _print_addresses
        asyncio.run(serve(settings, on_ready=on_ready, until_eof=bool(child)))
    except (OSError, ModuleNotFoundError) as error:
        print(f"omni-async sandbox: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
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


def fault_table() -> str:
    """Return all faults, one to a line: name, kinds of request, effect."""
    width = max(map(len, FAULTS))
    return "\n".join(f"{each.name:<{width}}  {'/'.join(each.kinds):<12}  {each.effect}" for each in FAULTS.values())


class _Parser(argparse.ArgumentParser):
    """Quotes arguments in its messages as one harmless line."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="omni-async sandbox", description="Serve the API on this machine, with real clips, until Ctrl-C."
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    for each in fields(SandboxSettings):
        option, help_text = "--" + each.name.replace("_", "-"), _help(each)
        if each.name == "faults":
            parser.add_argument("--fault", action="append", metavar="NAME[=P]", help=help_text)
        elif each.type in {"bool", "bool | None"}:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=each.default, help=help_text)
        else:
            parse = _parse_window if each.name == "window" else _PARSERS[str(each.type).removesuffix(" | None")]
            choices, metavar = CHOICES.get(each.name), None if each.name in CHOICES else _metavar(each.name, parse)
            parser.add_argument(
                option, type=parse, default=each.default, choices=choices, metavar=metavar, help=help_text
            )
    return parser


def _help(setting: Field[Any]) -> str:
    text: str = setting.metadata["help"].replace("%", "%%")
    # Not for None, whose meaning the text gives, and not for bool, whose option names say it.
    return f"{text} (default: {setting.default})" if type(setting.default) in {int, float, str} else text


_PARSERS: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}


def _metavar(name: str, parse: Callable[[str], Any]) -> str:
    if name in {"cert", "key"}:
        return "FILE"
    metavars = {int: "N", float: "X", str: name.upper(), _parse_window: "N/SECONDS"}
    return metavars[parse]


def _parse_window(text: str) -> tuple[int, float]:
    count, _, seconds = text.partition("/")
    return int(count), float(seconds)


def _settings(args: dict[str, Any]) -> SandboxSettings:
    probabilities: dict[str, float] = {}
    for each in args.pop("fault") or ():
        name, _, probability = each.partition("=")
        try:
            probabilities[name] = float(probability or 1)
        except ValueError:
            raise ValueError(f"--fault {each}: must be NAME=P with P from 0 to 1") from None
    return SandboxSettings(**args, faults=probabilities)


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
        loop.call_soon_threadsafe(stop.set)
        time.sleep(EXIT_TIMEOUT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="sandbox-until-eof").start()
