"""`omni-async fleet worker`: the same command on every machine of a fleet."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path  # noqa: TC003 - typer evaluates the annotations
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from omni_async import EventKind, JobStatus, OmniError

from ...formatting import format_count, format_usd
from ...timing import cancel_and_wait
from ..exit_status import ExitStatus, UsageError
from ..fleet_session import (
    DEFAULT_ACCOUNT,
    DatabaseOptions,
    Store,
    find_database,
    fleet_package,
    open_fleet,
    quiet_libraries,
    usage_errors,
)
from ..fleet_status import next_steps
from ..ledger import totals_json
from ..options import (
    FLAG,
    ConnectionOptions,
    LimitOptions,
    OutputOptions,
)
from ..output import Output
from ..session import run_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import JobEvent

    from ...fleet import FleetStatistics, FleetWorker

# Seconds between two lines about the progress: few enough for a log file, and a worker never seems to hang.
_NOTE_INTERVAL = 10.0
_LEAD_CHECK_INTERVAL = 0.5  # seconds between two checks whether it leads
_NO_KEY = (
    "no API key found: export APIMART_API_KEY=..., or name a file with --accounts. "
    "A worker with --role download needs none"
)


class Role(StrEnum):
    """What a worker does."""

    ALL = "all"
    SUBMIT = "submit"
    DOWNLOAD = "download"


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a worker does, and how."""

    store: Store = None
    until_done: Annotated[bool, typer.Option("--until-done", metavar=FLAG, help="End when nothing is left to do.")] = (
        False
    )
    role: Annotated[Role, typer.Option(help="Submit and poll, download, or both.")] = Role.ALL
    lease: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Others take over from a worker that is silent for this long.", min=1),
    ] = 10.0
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="USD", help="Stop submitting before all jobs of the account cost more than this."),
    ] = None
    accounts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="API keys of several accounts: lines of NAME=KEY.")
    ] = None
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Unique name; by default made from the host's.")] = (
        None
    )
    spool: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Local folder for clips that are being downloaded.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments for the worker."""
        named = {"store": self.store, "spool": self.spool, "name": self.name}
        return {**named, "role": self.role.value, "lease": self.lease}


def worker(
    *,
    options: WorkerOptions,
    database: DatabaseOptions,
    server: ConnectionOptions,
    limits: LimitOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Work on the jobs of a fleet, until Ctrl-C.

    Run the same command on every machine. One worker at a time submits and
    polls, whichever holds the lease of the account; all download. Whatever
    ends a worker, the others continue its work.

    A folder as --store is usually one that all machines mount. --max-cost
    is kept in the database and limits all jobs of the account. Each worker
    downloads --max-downloads clips at the same time, 8 by default.
    """
    out = Output(output)
    quiet_libraries(out)

    async def work() -> ExitStatus:
        if options.store is None and options.role is not Role.SUBMIT:
            raise UsageError("--store is missing: name where the clips are kept, a folder or s3://bucket/prefix")
        if options.accounts is not None and database.account != DEFAULT_ACCOUNT:
            raise UsageError("--accounts names the accounts: leave out --account")
        keys = {} if options.role is Role.DOWNLOAD else _read_keys(options.accounts, database.account)
        store = options.store or await _find_store(database)
        await _set_max_cost(database, options.max_cost, keys or [database.account])
        with usage_errors():
            made: FleetWorker = fleet_package().FleetWorker(
                find_database(database),
                **options.settings() | {"store": store},
                **limits.settings(),
                api_keys=keys,
                base_url=server.base_url,
                connection=server.connection(),
                on_event=partial(_show_event, out),
            )
            return await _run(made, database, out, until_done=options.until_done)

    return run_command(work, out)


async def _run(worker: FleetWorker, database: DatabaseOptions, out: Output, *, until_done: bool) -> ExitStatus:
    out.note(f"worker {worker.name} (Ctrl-C hands over immediately)")
    progress = asyncio.create_task(_show_progress(worker, database, out))
    try:
        await worker.run(until_done=until_done)
    except OSError as error:
        raise UsageError(f"--store: {error.filename or ''}: {error.strerror or error}") from None
    finally:
        await cancel_and_wait([progress])
    async with open_fleet(database) as fleet:
        statistics = await fleet.statistics(all_accounts=True)
    return _report(statistics, worker, out)


async def _show_progress(worker: FleetWorker, database: DatabaseOptions, out: Output) -> None:
    """Print a line now and then, and when it starts or stops leading. An error here ends no worker."""
    led: set[str] = set()
    noted_at = time.monotonic()
    while True:
        await anyio.sleep(_LEAD_CHECK_INTERVAL)
        leads = set(worker.leads)
        for account in sorted(leads ^ led):
            out.note(f"{'leads' if account in leads else 'leads no longer'}: {account}")
        led = leads
        if time.monotonic() - noted_at < _NOTE_INTERVAL or out.options.json:
            continue
        noted_at = time.monotonic()
        with suppress(OmniError, UsageError):
            async with open_fleet(database) as fleet:
                totals = (await fleet.statistics(all_accounts=True)).totals
            mine = worker.statistics()
            role = f"leads {', '.join(mine.leads)}, " if mine.leads else ""
            done = f"{totals.by_status.get(JobStatus.COMPLETED, 0):,} of {format_count(totals.jobs, 'clip')}"
            here = f"downloading {mine.fetching:,}, {mine.fetched:,} done here ({mine.bytes / 1e6:,.1f} MB)"
            out.note(f"{done}, {format_usd(totals.cost)}; {role}{here}")


def _report(statistics: FleetStatistics, worker: FleetWorker, out: Output) -> ExitStatus:
    """Print how everything has ended, and return the exit status."""
    totals = statistics.totals
    counts = totals_json(totals)
    if counts["unfinished"]:
        status = ExitStatus.STOPPED
    else:
        status = ExitStatus.DONE if counts["clips"] == totals.jobs else ExitStatus.FAILED
    mine = worker.statistics()
    if out.options.json:
        here = {"worker": worker.name, "fetched": mine.fetched, "bytes": mine.bytes, "exit_status": int(status)}
        out.json_line({"summary": counts | here | {"stop_reasons": worker.stop_errors}})
        return status
    out.result(f"{counts['clips']:,} of {format_count(totals.jobs, 'clip')}, {format_usd(totals.cost)}")
    for account, reason in worker.stop_errors.items():
        out.error(f"{account}: {reason}")
    for line in chain.from_iterable(map(next_steps, statistics.accounts)):
        out.error(line)
    return status


def _show_event(out: Output, event: JobEvent) -> None:
    """Print a job that has ended here as JSON, and with --verbose every step."""
    if out.options.json and event.kind is EventKind.STATUS and event.status.is_final:
        out.json_line(
            {
                "key": event.key,
                "status": str(event.status),
                "task_id": event.task_id,
                "path": str(event.path) if event.path else None,
                "cost": event.cost,
                "error": event.error or None,
            }
        )
    elif out.options.verbose:
        out.event(event)


async def _find_store(database: DatabaseOptions) -> str | None:
    """Return where the other workers keep the clips: a worker that only submits takes local files from there."""
    async with open_fleet(database) as fleet:
        return await fleet.output_dir()


async def _set_max_cost(database: DatabaseOptions, max_cost: float | None, accounts: Iterable[str]) -> None:
    if max_cost is None:
        return
    if not max_cost >= 0:
        raise UsageError("--max-cost must be 0 or more")
    for account in accounts:
        async with open_fleet(replace(database, account=account)) as fleet:
            await fleet.set_max_cost(max_cost)


def _read_keys(file: Path | None, account: str) -> dict[str, str]:
    """Return the API key of each account. Raise `UsageError` if there is none, or if others can read the file."""
    if file is None:
        key = os.environ.get("APIMART_API_KEY", "").strip()
        if not key:
            raise UsageError(_NO_KEY)
        return {account: key}
    try:
        if os.name == "posix" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UsageError(f"--accounts {file}: other users may read it; make it private: chmod 600 {file}")
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--accounts {file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        name, separator, key = (part.strip() for part in line.partition("="))
        if not (separator and name and key) or name in keys:
            problem = "this account is there already" if name in keys else "it must be NAME=KEY"
            raise UsageError(f"{file}:{number}: {problem}")
        keys[name] = key
    if not keys:
        raise UsageError(f"--accounts {file}: it names no account; write lines of NAME=KEY")
    return keys
