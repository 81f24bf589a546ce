"""Contestants in processes of their own, against sandboxes in another one, all let go at the same moment."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.contestants.order import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT = Path(__file__).parent.parent
_LINE = 64 * 1024 * 1024
_PATIENCE = 300.0


@dataclass(frozen=True)
class Entry:
    """Who takes part, under which name, with what order, against what account."""

    label: str
    contestant: str
    jobs: int
    account: dict[str, Any]
    order: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a contestant took, and what its server saw. Times are seconds; a life is (accepted, finished)."""

    entry: Entry
    seconds: float
    cpu: float
    megabytes: float
    began: float
    submits: int
    refused: int
    checks: int
    lives: list[tuple[float, float]]

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU for each job."""
        return 1000 * self.cpu / self.entry.jobs

    @property
    def durations(self) -> list[float]:
        """How long the server took over each job, in the order in which it accepted them."""
        return [end - start for start, end in self.lives]


def hold(entries: Sequence[Entry]) -> list[Outcome]:
    """Let all of them run at the same time."""
    return asyncio.run(_hold(entries))


async def _hold(entries: Sequence[Entry]) -> list[Outcome]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-benchmark-")))
        addresses = await _addresses(stack, entries)
        contestants = []
        for number, (entry, address) in enumerate(zip(entries, addresses, strict=True)):
            clips = folder / str(number)
            clips.mkdir()
            contestant = await stack.enter_async_context(child("benchmarks.contestants", entry.contestant))
            await contestant.tell(asdict(Order(**address, folder=str(clips), jobs=entry.jobs, **entry.order)))
            contestants.append(contestant)
        for contestant in contestants:
            assert (await contestant.line()).strip() == b"ready"
        told = await asyncio.gather(*(contestant.ask("go") for contestant in contestants))
        for number, entry in enumerate(entries):
            made = len(list((folder / str(number)).glob("*.mp4")))
            assert made == entry.jobs, f"{entry.label} made {made} clips of {entry.jobs}"
        return [
            await _outcome(entry, each, address) for entry, each, address in zip(entries, told, addresses, strict=True)
        ]


async def _addresses(stack: AsyncExitStack, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Open an account for each; those of one contestant share a process, so that no other's load slows its answers."""
    found: dict[int, dict[str, Any]] = {}
    for contestant in dict.fromkeys(entry.contestant for entry in entries):
        mine = {number: entry.account for number, entry in enumerate(entries) if entry.contestant == contestant}
        server = await stack.enter_async_context(child("benchmarks.server"))
        told = await server.ask([{"prerendered": True} | account for account in mine.values()])
        found |= zip(mine, told, strict=True)
    return [found[number] for number in range(len(entries))]


async def _outcome(entry: Entry, told: dict[str, Any], address: dict[str, str]) -> Outcome:
    async with aiohttp.ClientSession() as session, session.get(f"{address['base_url']}/sandbox/record") as answer:
        record = await answer.json()
    tasks = record["tasks"].values()
    return Outcome(
        entry,
        seconds=told["seconds"],
        cpu=told["cpu"],
        megabytes=told["megabytes"],
        began=told["began"],
        submits=record["submits"],
        refused=record["refused"].get("429", 0),
        checks=record["checks"],
        lives=sorted((task["created"], task["completed"]) for task in tasks),
    )


class Child:
    """A process that is spoken to in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, what: object) -> None:
        """Write a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> bytes:
        """Read a line."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _PATIENCE)
        if not line:
            raise RuntimeError("a process of the benchmark ended before it answered; its words are above")
        return line

    async def ask(self, what: object) -> Any:
        """Write a line and read one."""
        await self.tell(what)
        return json.loads(await self.line())


@asynccontextmanager
async def child(*module: str) -> AsyncIterator[Child]:
    """Start a module of this checkout as a process, which ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=_LINE,
    )
    assert process.stdin is not None
    try:
        yield Child(process)
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
