"""Runs the command line as a user would: in this process, which is fast, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import re
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import omni_async
from omni_async import Limits, Polling, Retry, UnknownModelWarning
from omni_async.cli import options
from omni_async.cli.app import run_arguments
from omni_async.cli.commands import account

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PACKAGES = str(Path(omni_async.__file__).parents[1])
PROGRAM = str(Path(omni_async.__file__).with_name("__main__.py"))
TIMEOUT = 60.0  # seconds, far more than anything here needs

# Working directory, environment and standard streams belong to the process: one command at a time may replace them.
_PROCESS_STATE = threading.Lock()


@dataclass(frozen=True)
class CommandResult:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Parse stdout as JSON lines; fail if it is anything else."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """A working directory and an environment to run commands in."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        names = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT", "LANG")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        self.environment = kept | {"PYTHONPATH": PACKAGES} | dict(environment)

    def write(self, name: str, content: str) -> str:
        """Write a file and return its name."""
        (self.folder / name).write_text(content, encoding="utf-8")
        return name

    def clips(self, folder: str = "clips") -> list[str]:
        """Return the names of all files in an output folder except those of its ledger."""
        return sorted(path.name for path in (self.folder / folder).iterdir() if ".db" not in path.suffixes)

    async def omni(self, *arguments: str, **environment: str) -> CommandResult:
        """Run a command in this process, in a thread with an event loop of its own, and return its result.

        Unlike a real command it submits 100 times a second from the start, checks jobs up to 50 times a second and
        retries soon: with the defaults, which suit clips that take minutes, most of a test would be waiting. Signals
        are not handled, because only the main thread of a program can do that: `start` is for tests of signals.
        """
        # Not asyncio.to_thread: that copies the context variables, by which anyio would think that its loop runs there.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._run, arguments, self.environment | environment)

    async def omni_process(self, *arguments: str, **environment: str) -> CommandResult:
        """Run a command as a process of its own and return its result."""
        return await wait_for_exit(await self.start(*arguments, **environment))

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start a command as a process of its own."""
        return await self.start_python("-m", "omni_async", *arguments, **environment)

    async def start_python(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start the interpreter."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=self.folder,
            env=self.environment | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> CommandResult:
        out, err = io.StringIO(), io.StringIO()
        with (
            _as_process(self.folder, arguments, environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            run_arguments(arguments)
        assert "Traceback" not in err.getvalue(), err.getvalue()
        return CommandResult(int(end.value.code or 0), out.getvalue(), err.getvalue())


def _fast_limits(*, submits_per_minute: float | None, **limits: Any) -> Limits:
    """Return the limits of a command with a high rate in place of a learned one, which starts low."""
    return Limits(submits_per_minute=6000.0 if submits_per_minute is None else submits_per_minute, **limits)


@contextlib.contextmanager
def _as_process(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Set the working directory, the arguments and the environment of this process as long as a command runs."""
    with _PROCESS_STATE, pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # All warnings are errors in tests; this one is part of the output.
        warnings.simplefilter("default", UnknownModelWarning)
        patch.setattr(options, "Limits", _fast_limits)
        patch.setattr(options, "Retry", functools.partial(Retry, wait_initial=0.05))
        patch.setattr(account, "INTERACTIVE_RETRY", Retry(timeout=0.5, wait_initial=0.05))
        patch.setattr(options, "Polling", functools.partial(Polling, min_interval=0.02, max_interval=0.05))
        patch.chdir(folder)
        patch.setattr(sys, "argv", [PROGRAM, *arguments])
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


async def wait_for_exit(process: asyncio.subprocess.Process) -> CommandResult:
    """Wait until a process ends, and return its result; kill it if it does not. No command may print a traceback."""
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    result = CommandResult(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in result.err, result.err
    return result


async def wait_for_output(process: asyncio.subprocess.Process, pattern: str, *, different: int = 1) -> str:
    """Read stderr until the pattern has matched this many different texts; return the last one."""
    assert process.stderr is not None
    read, matched = "", set[str]()
    async with asyncio.timeout(TIMEOUT):
        while len(matched) < different:
            line = (await process.stderr.readline()).decode()
            assert line, f"the process ended before it printed {pattern!r}: {read}"
            read += line
            matched |= set(re.findall(pattern, line))
    return re.findall(pattern, read)[-1]  # type: ignore[no-any-return]
