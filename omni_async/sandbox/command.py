"""The command line of the sandbox: every knob an option, and serving until told to stop."""

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
from dataclasses import fields
from typing import Any

from .faults import FAULTS
from .server import Sandbox
from .settings import CHOICES, SandboxSettings

GRACE = 5.0  # seconds to end in after the parent has gone

Announce = Callable[[Sandbox], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and serve."""
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
        asyncio.run(serve(settings, announce=_tell_parent if child else _tell_person, until_eof=bool(child)))
    except (OSError, ModuleNotFoundError) as error:
        print(f"omni-async sandbox: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def serve(settings: SandboxSettings, *, announce: Announce | None = None, until_eof: bool = False) -> None:
    """Serve until SIGINT or SIGTERM, or, for a child, until stdin ends."""
    stop = asyncio.Event()
    if until_eof:
        _on_eof(stop)
    with _signals(stop):
        async with Sandbox(settings) as sandbox:
            (announce or _tell_person)(sandbox)
            await stop.wait()


def fault_table() -> str:
    """All faults, a line each."""
    width = max(map(len, FAULTS))
    return "\n".join(f"{each.name:<{width}}  {'/'.join(each.kinds):<12}  {each.does}" for each in FAULTS.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="omni-async sandbox", description="Serve the API locally, until Ctrl-C.")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    for each in fields(SandboxSettings):
        option, says = "--" + each.name.replace("_", "-"), each.metadata["says"].replace("%", "%%")
        if each.name == "faults":
            parser.add_argument("--fault", action="append", metavar="NAME=P", help=says)
        elif each.type == "bool":
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=each.default, help=says)
        else:
            kind = _window if each.name == "window" else _KINDS[str(each.type).removesuffix(" | None")]
            choices, metavar = CHOICES.get(each.name), None if each.name in CHOICES else _metavar(each.name, kind)
            parser.add_argument(option, type=kind, default=each.default, choices=choices, metavar=metavar, help=says)
    return parser


_KINDS: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}


def _metavar(name: str, kind: Callable[[str], Any]) -> str:
    if name in {"cert", "key"}:
        return "FILE"
    names = {int: "N", float: "X", str: name.upper(), _window: "N/SECONDS"}
    return names[kind]


def _window(text: str) -> tuple[int, float]:
    count, _, seconds = text.partition("/")
    return int(count), float(seconds)


def _settings(args: dict[str, Any]) -> SandboxSettings:
    chances: dict[str, float] = {}
    for each in args.pop("fault") or ():
        name, _, chance = each.partition("=")
        try:
            chances[name] = float(chance or 1)
        except ValueError:
            raise ValueError(f"--fault {each}: must be NAME=P with P within 0 and 1") from None
    return SandboxSettings(**args, faults=chances)


def _tell_person(sandbox: Sandbox) -> None:
    line = f"sandbox: {sandbox.base_url}  clips: {sandbox.cdn_url}  key: {sandbox.api_key}  (Ctrl-C ends it)"
    print(line)  # noqa: T201
    trusted = [("SSL_CERT_FILE", sandbox.settings.cert)] if sandbox.settings.cert else []
    for name, value in (("APIMART_BASE_URL", sandbox.base_url), ("APIMART_API_KEY", sandbox.api_key), *trusted):
        print(f"export {name}={shlex.quote(value)}", flush=True)  # noqa: T201


def _tell_parent(sandbox: Sandbox) -> None:
    told = {"base_url": sandbox.base_url, "cdn_url": sandbox.cdn_url, "api_key": sandbox.api_key}
    print(json.dumps(told), flush=True)  # noqa: T201


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_eof(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def watch() -> None:
        # os.read, not sys.stdin: a daemon thread must not hold a lock that the end of the interpreter wants.
        while os.read(0, 1024):
            pass
        loop.call_soon_threadsafe(stop.set)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="sandbox-until-eof").start()
