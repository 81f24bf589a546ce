"""`omni-async fleet demo`: everything that a fleet needs, started on this machine, and its leader killed on the way."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread
import typer
from rich.console import Group

from omni_async import JobStatus, OmniError

from ...formatting import format_count, format_duration, format_usd
from ..demo_postgres import demo_postgres, find_programs, guarded
from ..exit_status import ExitStatus, UsageError
from ..fleet_session import fleet_package
from ..fleet_status import fleet_lines
from ..options import OutputOptions  # noqa: TC001 - typer evaluates the annotation
from ..output import Output
from ..session import run_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import Process

    from ...fleet import AccountStatus, Fleet, FleetStatistics
    from ...sandbox import SandboxProcess

WORKERS = 3
LEASE = 4.0  # seconds: shorter than the default, so that the takeover comes soon
_PER_MINUTE = 300  # submits that the sandbox accepts; the workers have to find that out
_KILL_AT = 0.4  # share of the clips that are accepted when the leader is killed
_CHECK_INTERVAL = 0.5  # seconds between two checks
_NOTE_INTERVAL = 2.0  # seconds between two lines
_TIMEOUT = 120.0  # seconds without a newly completed clip after which something must be wrong
_PROMPTS = ("a paper boat on a pond", "a lighthouse at dusk", "a fox in the snow", "a kite over the dunes")


def demo(
    *,
    clips: Annotated[int, typer.Option(metavar="N", help="Clips to make.", min=3, max=5000)] = 60,
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Keep the clips in this folder.", show_default=False),
    ] = None,
    output: OutputOptions,
) -> ExitStatus:
    """Show a fleet at work: Postgres, sandbox and three workers, one of them killed.

    Everything runs on this machine, without a key and at no cost. The
    worker that submits is killed in the middle; another one takes over.
    At the end the jobs, the clips and what was paid are compared.

    Needs the programs of Postgres (initdb). What is started is ended and
    removed again.
    """
    out = Output(output)

    async def work() -> ExitStatus:
        fleet_package()
        find_programs()
        async with _temporary_folder() as home:
            return await _Demo(out, home, clips, folder or home / "clips").run()

    return run_command(work, out)


@asynccontextmanager
async def _temporary_folder() -> AsyncIterator[Path]:
    """Make a folder and remove it at the end."""
    home = await anyio.to_thread.run_sync(_make_folder)
    try:
        yield home
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(home, ignore_errors=True))


def _make_folder() -> Path:
    # Not in TMPDIR, which is long on macOS: the path of a socket may have about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="omni-demo-", dir="/tmp"))
    folder.chmod(0o711)  # Postgres may run as another user; its own folder is below this one
    return folder


@dataclass
class _Demo:
    out: Output
    home: Path
    count: int
    store: Path
    workers: list[Process] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    killed_at: float | None = None
    killed: str = ""
    took_over_after: float | None = None

    async def run(self) -> ExitStatus:
        from ...sandbox import SandboxProcess  # noqa: PLC0415 - it is slow to import

        async with AsyncExitStack() as stack:
            database = self.home / "postgres"
            await anyio.Path(database).mkdir(mode=0o700)
            url = await stack.enter_async_context(demo_postgres(database))
            self._say(f"Postgres started in {database}")
            sandbox = await self._start_sandbox(stack, SandboxProcess)
            for line in await fleet_package().install(url):
                self._say(line)
            fleet: Fleet = await stack.enter_async_context(fleet_package().Fleet(url, store=self.store))
            requests = {f"clip-{n:03}": f"{_PROMPTS[n % len(_PROMPTS)]}, take {n}" for n in range(1, self.count + 1)}
            first, again = await fleet.enqueue(requests), await fleet.enqueue(requests)
            self._say(f"enqueued {format_count(first.new, 'job')}; enqueued once more: {again.new:,} new")
            for number in range(1, WORKERS + 1):
                worker = await stack.enter_async_context(self._worker(number, url, sandbox))
                self.workers.append(worker)
            stack.push_async_callback(self._end_workers)  # all of them, before the end of one is waited for
            self._say(f"{WORKERS} workers started with the same command: omni-async fleet worker --store {self.store}")
            statistics = await self._watch(fleet)
            return self._report(statistics, await sandbox.record())

    async def _start_sandbox(self, stack: AsyncExitStack, kind: type[SandboxProcess]) -> SandboxProcess:
        try:
            sandbox = await stack.enter_async_context(
                kind(per_minute=_PER_MINUTE, burst=3, median=2.5, latency=0.1, prerendered=True)
            )
        except (RuntimeError, OSError) as error:
            raise UsageError(*f"the sandbox could not be started: {error}".splitlines()) from None
        rate = f"{_PER_MINUTE / 60:g} submits per second"
        self._say(f"sandbox at {sandbox.base_url}: accepts {rate}, unknown to the workers")
        return sandbox

    async def _end_workers(self) -> None:
        with anyio.CancelScope(shield=True):
            for worker in self.workers:
                assert worker.stdin is not None
                await worker.stdin.aclose()

    def _worker(self, number: int, url: str, sandbox: SandboxProcess) -> Any:
        command = [sys.executable, "-m", "omni_async", "fleet", "worker", "--store", str(self.store)]
        # The one that is killed leaves its spool, which is removed with everything else.
        command += ["--spool", str(self.home), "--lease", str(LEASE), "--name", f"worker-{number}"]
        own = {"OMNI_DATABASE_URL": url, "APIMART_API_KEY": sandbox.api_key, "APIMART_BASE_URL": sandbox.base_url}
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
        return guarded(command, self.home / f"worker-{number}.log", env={**os.environ, **own, "PYTHONPATH": path})

    # What happens

    async def _watch(self, fleet: Fleet) -> FleetStatistics:
        """Follow the fleet until every job has ended; in the middle, kill the leader."""
        noted = progressed = time.monotonic()
        completed = -1
        while True:
            statistics = await fleet.statistics()
            [account] = statistics.accounts
            by_status, now = account.totals.by_status, time.monotonic()
            waiting = sum(by_status.get(status, 0) for status in (JobStatus.WAITING, JobStatus.SUBMITTING))
            await self._interfere(statistics, account, accepted=self.count - waiting)
            if by_status.get(JobStatus.COMPLETED, 0) != completed:
                completed, progressed = by_status.get(JobStatus.COMPLETED, 0), now
            if all(status.is_final for status in by_status):
                self._note_state(account, statistics)
                return statistics
            if now - progressed > _TIMEOUT:
                raise OmniError(
                    f"no clip was completed for {_TIMEOUT:.0f} s. {await anyio.to_thread.run_sync(self._logs)}"
                )
            if now - noted >= _NOTE_INTERVAL:
                noted = now
                self._note_state(account, statistics)
            await anyio.sleep(_CHECK_INTERVAL)

    async def _interfere(self, statistics: FleetStatistics, account: AccountStatus, *, accepted: int) -> None:
        """Kill the leader in the middle, and note who takes over."""
        now = time.monotonic()
        if self.killed_at is None and account.leader and accepted >= _KILL_AT * self.count:
            for worker in statistics.workers:
                if worker.worker == account.leader:
                    self._note_state(account, statistics)
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGKILL)
                    self.killed, self.killed_at = worker.worker, now
                    self._say(f"SIGKILL for {worker.worker}, the leader, in the middle of its work")
        elif self.killed_at is not None and self.took_over_after is None and account.leader not in {None, self.killed}:
            self.took_over_after = now - self.killed_at
            text = f"{account.leader} leads now (epoch {account.epoch}), {self.took_over_after:.1f} s later"
            self._say(f"{text}: the lease was {LEASE:g} s")

    def _note_state(self, account: AccountStatus, statistics: FleetStatistics) -> None:
        totals = account.totals
        waiting = totals.by_status.get(JobStatus.WAITING, 0)
        running = totals.by_status.get(JobStatus.RUNNING, 0) + totals.by_status.get(JobStatus.SUBMITTING, 0)
        fetching = totals.by_status.get(JobStatus.DOWNLOADING, 0)
        facts = f"{waiting:,} waiting, {running:,} at the server, {fetching:,} to download"
        done = f"{totals.by_status.get(JobStatus.COMPLETED, 0):,} of {format_count(totals.jobs, 'clip')}"
        self._say(f"{done}; {facts}; leader: {account.leader or 'none'}")

    def _logs(self) -> str:
        """Return the last line that each worker has printed."""
        texts = {path.stem: path.read_text("utf-8", "replace") for path in sorted(self.home.glob("worker-*.log"))}
        return "; ".join(f"{name}: {(text.strip().splitlines() or ['nothing'])[-1]}" for name, text in texts.items())

    # What came of it

    def _report(self, statistics: FleetStatistics, record: dict[str, Any]) -> ExitStatus:
        totals, tasks = statistics.totals, record["tasks"].values()
        completed = totals.by_status.get(JobStatus.COMPLETED, 0)
        files = sorted(self.store.glob("clip-*.mp4"))
        paid_twice = len(tasks) - len({task["prompt"] for task in tasks})
        times = sorted(task["created"] for task in tasks)
        silence = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        is_good = completed == len(files) == self.count and not paid_twice
        if self.out.options.json:
            self.out.json_line(
                {
                    "jobs": totals.jobs,
                    "clips": completed,
                    "files": len(files),
                    "tasks": len(tasks),
                    "paid_twice": paid_twice,
                    "unknown": totals.by_status.get(JobStatus.UNKNOWN, 0),
                    "cost": totals.cost,
                    "took_over_after": self.took_over_after,
                    "longest_silence": round(silence, 3),
                    "rate_limited": record["refused"].get("429", 0),
                    "seconds": round(time.monotonic() - self.started, 3),
                }
            )
            return ExitStatus.DONE if is_good else ExitStatus.FAILED
        self.out.render(Group(*fleet_lines(statistics, "at the end:")))
        self.out.result(
            "",
            f"jobs                       {totals.jobs:,}",
            f"complete clips             {len(files):,} ({sum(path.stat().st_size for path in files) / 1e6:,.1f} MB)",
            f"tasks paid at the server   {len(tasks):,} ({format_usd(totals.cost)}), {paid_twice:,} of them twice",
            f"submits refused with 429   {record['refused'].get('429', 0):,}",
            f"longest time without an accepted submit {format_duration(silence)} (lease {LEASE:g} s)",
        )
        return ExitStatus.DONE if is_good else ExitStatus.FAILED

    def _say(self, text: str) -> None:
        self.out.note(f"{time.monotonic() - self.started:5.1f} s  {text}")
