"""Run peers in their own processes against sandboxes in others, all started at the same moment.

Used by the benchmarks in real time: `cpu` and `makespan`; `download` and `webhooks` use its child processes.
"""

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

from benchmarks.peers.assignment import Assignment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT = Path(__file__).parent.parent
_MAX_LINE = 64 * 1024 * 1024  # bytes; a list of ten thousand task ids in JSON is far shorter
# Seconds for an answer of a child process. The slowest peer of the makespan benchmark takes a few minutes; a program
# that hangs ends the benchmark after this time.
_TIMEOUT = 300.0


@dataclass(frozen=True)
class PeerRun:
    """One run of a peer: its label, the peer's module, the number of jobs, the sandbox settings, further options.

    `options` are fields of `Assignment`.
    """

    label: str
    peer: str
    jobs: int
    account: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PeerResult:
    """What a run used, and what its server recorded. `task_times` holds (accepted, finished) of each task.

    Times are unix seconds; `seconds` and `cpu` are durations. `user` is the part of `cpu` that was not spent in
    the kernel. `refused` counts responses with status 429.
    """

    run: PeerRun
    seconds: float
    cpu: float
    user: float
    megabytes: float
    started_at: float
    submits: int
    refused: int
    checks: int
    task_times: list[tuple[float, float]]

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU per job."""
        return 1000 * self.cpu / self.run.jobs

    @property
    def durations(self) -> list[float]:
        """The duration of each task on the server in seconds, in order of acceptance."""
        return [end - start for start, end in self.task_times]


def run_concurrently(runs: Sequence[PeerRun]) -> list[PeerResult]:
    """Run all of them at the same time and return their results in the same order."""
    return asyncio.run(run_all(runs))


async def run_all(runs: Sequence[PeerRun]) -> list[PeerResult]:
    """Run all of them at the same time and return their results in the same order."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-benchmark-")))
        addresses = await _start_servers(stack, runs)
        peers = []
        for number, (run, address) in enumerate(zip(runs, addresses, strict=True)):
            clips = folder / str(number)
            clips.mkdir()
            peer = await stack.enter_async_context(start_module("benchmarks.peers", run.peer))
            await peer.send(asdict(Assignment(**address, folder=str(clips), jobs=run.jobs, **run.options)))
            peers.append(peer)
        for peer in peers:
            assert (await peer.read_line()).strip() == b"ready"
        measured = await asyncio.gather(*(peer.request("go") for peer in peers))
        for number, run in enumerate(runs):
            clip_count = len(list((folder / str(number)).glob("*.mp4")))
            assert clip_count == run.jobs, f"{run.label} wrote {clip_count} clips of {run.jobs}"
        return [await _result(run, each, address) for run, each, address in zip(runs, measured, addresses, strict=True)]


async def _start_servers(stack: AsyncExitStack, runs: Sequence[PeerRun]) -> list[dict[str, Any]]:
    """Start a sandbox for each run and return their addresses.

    The sandboxes of one peer share a process, so that its responses are not slowed by the load of another peer.
    """
    by_run: dict[int, dict[str, Any]] = {}
    for peer in dict.fromkeys(run.peer for run in runs):
        accounts = {number: run.account for number, run in enumerate(runs) if run.peer == peer}
        server = await stack.enter_async_context(start_module("benchmarks.server"))
        addresses = await server.request([{"prerendered": True} | account for account in accounts.values()])
        by_run |= zip(accounts, addresses, strict=True)
    return [by_run[number] for number in range(len(runs))]


async def _result(run: PeerRun, measured: dict[str, Any], address: dict[str, str]) -> PeerResult:
    async with aiohttp.ClientSession() as session, session.get(f"{address['base_url']}/sandbox/record") as response:
        record = await response.json()
    tasks = record["tasks"].values()
    return PeerResult(
        run,
        seconds=measured["seconds"],
        cpu=measured["cpu"],
        user=measured["user"],
        megabytes=measured["megabytes"],
        started_at=measured["started_at"],
        submits=record["submits"],
        refused=record["refused"].get("429", 0),
        checks=record["checks"],
        task_times=sorted((task["created"], task["completed"]) for task in tasks),
    )


class ChildProcess:
    """A child process that reads and writes lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, message: object) -> None:
        """Write a message as a line of JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def read_line(self) -> bytes:
        """Read a line. Raises `RuntimeError` if the process has ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_TIMEOUT):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended before it answered; its error output is above")
        return line

    async def request(self, message: object) -> Any:
        """Write a message and return the answer."""
        await self.send(message)
        return json.loads(await self.read_line())

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()


@asynccontextmanager
async def start_module(*module: str) -> AsyncIterator[ChildProcess]:
    """Start a module of this checkout as a process, which ends with the block. Arguments follow the module's name."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=_MAX_LINE,
    )
    assert process.stdin is not None
    try:
        yield ChildProcess(process)
        process.stdin.close()
        async with asyncio.timeout(20):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
