"""Runs the command line in a process of its own, as a user would."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import omni_async

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES = str(Path(omni_async.__file__).parents[1])
PATIENCE = 60.0  # seconds, far more than anything here needs


@dataclass(frozen=True)
class Said:
    """What a command gave."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Read stdout as lines of JSON; fails where it is anything else."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """A folder to work in, and an environment."""

    python = (sys.executable,)

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT", "LANG") if name in os.environ}
        self.environment = kept | {"PYTHONPATH": PACKAGES} | dict(environment)

    def write(self, name: str, content: str) -> str:
        """Write a file, and give its name."""
        (self.folder / name).write_text(content, encoding="utf-8")
        return name

    def clips(self, folder: str = "clips") -> list[str]:
        """Give the names of all files in an output folder, but for those of its ledger."""
        return sorted(path.name for path in (self.folder / folder).iterdir() if ".db" not in path.suffixes)

    async def omni(self, *arguments: str, **environment: str) -> Said:
        """Run a command to its end."""
        return await ended(await self.start(*arguments, **environment))

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start a command."""
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


async def ended(process: asyncio.subprocess.Process) -> Said:
    """Wait for the end of a command; kill it if there is none. No command may ever show a traceback."""
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    said = Said(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in said.err, said.err
    return said


async def until(process: asyncio.subprocess.Process, pattern: str, *, different: int = 1) -> str:
    """Read stderr until the pattern has been met in so many different texts; give the last one."""
    assert process.stderr is not None
    read, met = "", set[str]()
    async with asyncio.timeout(PATIENCE):
        while len(met) < different:
            line = (await process.stderr.readline()).decode()
            assert line, f"ended before it said {pattern!r}: {read}"
            read += line
            met |= set(re.findall(pattern, line))
    return re.findall(pattern, read)[-1]  # type: ignore[no-any-return]
