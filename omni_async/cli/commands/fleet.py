"""`omni-async fleet`: many machines, one account. `worker` and `demo` have modules of their own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import anyio.to_thread
import typer

from omni_async import JobStatus, KeyReused, LedgerError

from ... import batch
from ...formatting import format_count, format_duration
from ..exit_status import ExitStatus, UsageError
from ..file_options import DefaultOptions, FileOptions  # noqa: TC001 - typer evaluates the annotations
from ..fleet_session import (
    AccountFilterOptions,
    DatabaseOption,
    DatabaseOptions,
    Store,
    find_database,
    fleet_package,
    run_with_fleet,
    usage_errors,
)
from ..fleet_status import FleetView, JobList, as_json
from ..gallery_page import write_page
from ..options import (
    FLAG,
    OutputOptions,
    RetryFailed,
    RetryUnknown,
    TrustOptions,
)
from ..output import Output
from ..prompt_file import read_lines
from ..session import run_command
from .gallery import report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...fleet import Fleet, FleetReader

# Clips that an error names, and jobs that --status lists where --json does not list all.
_LISTED, _LISTED_JOBS = 10, 50
# Seconds between two updates of `status --watch`.
_WATCH_INTERVAL = 1.0
# The same where its output is no terminal, for logs.
_LOG_INTERVAL = 10.0


def init(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar=FLAG, help="Only say what would be done.")] = False,
    database: DatabaseOption,
    output: OutputOptions,
) -> ExitStatus:
    """Create or update the tables of a fleet in Postgres.

    Ours and those of procrastinate. It can be run again at any time, and
    on every update of omni_async.
    """
    out = Output(output)

    async def work() -> ExitStatus:
        found = find_database(database)
        with usage_errors():
            done: list[str] = await fleet_package().install(found, dry_run=dry_run)
        verb = "would " if dry_run else "done: "
        for line in done or ["nothing to do: the tables are up to date"]:
            out.note(f"{verb}{line}" if done else line)
        if output.json:
            out.json_line({"database": found.safe_text, "dry_run": dry_run, "steps": done})
        return ExitStatus.DONE

    return run_command(work, out)


def enqueue(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Requests: JSON, a table or text; - is stdin.", show_default=False)
    ],
    *,
    store: Store = None,
    priority: Annotated[int, typer.Option(metavar="N", help="Jobs with a higher number are submitted first.")] = 0,
    trust: TrustOptions,
    options: FileOptions,
    defaults: DefaultOptions,
    database: DatabaseOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Add a job for every line of a file.

    FILE and its options are those of `batch`. It is checked completely
    before anything is added. Enqueued again, it adds only what is new.

    Local images and videos that it names are put into the clip store, from
    where the worker that submits takes them.
    """
    out = Output(output)

    def read() -> list[batch.Line]:
        with fleet_package().FleetReader(find_database(database), database.account) as reader:
            return read_lines(
                file,
                options,
                defaults,
                trust,
                is_done=lambda key: reader.find(key) is not None,  # then its files are in the clip store
                on_read=lambda reading: out.note(reading.note) if reading.note else None,
            )

    return run_with_fleet(database, partial(_enqueue, read, file, priority, out), out, store=store)


async def _enqueue(
    read: Callable[[], list[batch.Line]], file: Path, priority: int, out: Output, fleet: Fleet
) -> ExitStatus:
    lines = await anyio.to_thread.run_sync(read)
    started = time.monotonic()
    try:
        result = await fleet.enqueue(batch.new_records(lines), priority=priority, batch=file.name)
    except KeyReused as error:
        numbers = {line.key: line.number for line in lines}
        raise UsageError(f"{file}:{numbers.get(error.key, 0)}: {error}") from None
    except OSError as error:
        raise UsageError(f"--store: {error.filename}: {error.strerror or error}") from None
    if out.options.json:
        out.json_line({"new": result.new, "existing": result.existing})
    else:
        counts = f"{format_count(result.new, 'new job')}, {result.existing:,} already there"
        out.result(f"{file}: {counts}, in {format_duration(time.monotonic() - started)}")
    return ExitStatus.DONE


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", metavar=FLAG, help="Show it until Ctrl-C.")] = False,
    status: Annotated[
        JobStatus | None, typer.Option("--status", metavar="STATUS", help="List the jobs with this status.")
    ] = None,
    database: AccountFilterOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Show what a fleet is doing.

    The sums over all jobs, who leads and how fast it submits, and what each
    worker does. With --status, the jobs themselves; STATUS is one of those
    that `omni-async status` shows.
    """
    out = Output(output)
    if status is not None:
        return _with_reader(database.one, out, lambda reader: _list_jobs(reader, status, out))

    async def work(fleet: Fleet) -> ExitStatus:
        place, reported = fleet.database.safe_text, ""
        with FleetView(out, is_watched=watch) as view:
            while True:
                try:
                    statistics = await fleet.statistics(all_accounts=database.account is None)
                except LedgerError as error:
                    if not watch or error.permanent:
                        raise
                    if not reported:  # an outage is watched as well
                        out.error(reported := str(error))
                else:
                    reported = ""
                    if output.json:
                        out.json_line(as_json(statistics, place))
                    else:
                        view.show(statistics, place)
                if not watch or out.stdout_error:
                    return ExitStatus.DONE if not out.stdout_error else ExitStatus.STOPPED
                await anyio.sleep(_WATCH_INTERVAL if out.is_live or output.json else _LOG_INTERVAL)

    return run_with_fleet(database.one, work, out)


def _with_reader(database: DatabaseOptions, out: Output, work: Callable[[FleetReader], ExitStatus]) -> ExitStatus:
    """Do something with a reader of the fleet, and return the exit status."""
    try:
        with usage_errors(), fleet_package().FleetReader(find_database(database), database.account) as reader:
            return work(reader)
    except LedgerError as error:  # waiting may help
        out.error(str(error))
        return ExitStatus.STOPPED


def _list_jobs(reader: FleetReader, status: JobStatus, out: Output) -> ExitStatus:
    if not out.options.json:
        count = reader.totals().by_status.get(status, 0)
        out.render(JobList(list(islice(reader.jobs(status), _LISTED_JOBS)), status, count))
        return ExitStatus.DONE
    for record in reader.jobs(status):
        out.json_line(record.as_json())
        if out.stdout_error:
            return ExitStatus.STOPPED
    return ExitStatus.DONE


def pause(*, database: DatabaseOptions, output: OutputOptions) -> ExitStatus:
    """Submit nothing more until `fleet resume`.

    Jobs that are accepted are followed and downloaded.
    """
    return _change(database, output, "paused: nothing more is submitted", lambda fleet: fleet.pause())


def drain(*, database: DatabaseOptions, output: OutputOptions) -> ExitStatus:
    """Submit nothing more, and finish what is accepted.

    Workers that run with --until-done end then.
    """
    text = "draining: nothing more is submitted; accepted jobs are finished"
    return _change(database, output, text, lambda fleet: fleet.drain())


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """What has changed since submissions stopped."""

    confirm_failover: Annotated[
        bool,
        typer.Option(
            "--confirm-failover",
            metavar=FLAG,
            help="Continue although a replica was promoted, or a backup restored. "
            "If it lost committed rows, jobs may be paid twice.",
        ),
    ] = False
    new_key: Annotated[
        bool, typer.Option("--new-key", metavar=FLAG, help="The account's API key was replaced: take the workers' key.")
    ] = False
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", help="New limit of what all jobs of the account may cost.")
    ] = None

    async def apply(self, fleet: Fleet) -> None:
        """Change the fleet accordingly, and let it submit again."""
        if self.confirm_failover:
            await fleet.confirm_failover()
        if self.new_key:
            await fleet.forget_key()
        await fleet.resume(max_cost=self.max_cost)


def resume(
    *,
    retry_failed: RetryFailed = False,
    retry_unknown: RetryUnknown = False,
    options: ResumeOptions,
    database: DatabaseOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Submit again, after `pause`, `drain` or a stop.

    After a stop because there was no credit, top up the account first.
    Downloads that had failed and jobs that had timed out are taken up
    again, without paying.
    """
    if options.max_cost is not None and not options.max_cost >= 0:
        raise UsageError("--max-cost must be 0 or more")
    out = Output(output)

    async def work(fleet: Fleet) -> ExitStatus:
        retried = 0
        if retry_failed or retry_unknown:
            retried = await fleet.retry(failed=retry_failed, unknown=retry_unknown)
        await options.apply(fleet)
        if output.json:
            out.json_line({"account": fleet.account, "state": "running", "retried": retried})
        else:
            out.note(f"{fleet.account}: running" + (f", {format_count(retried, 'job')} again" if retried else ""))
        return ExitStatus.DONE

    return run_with_fleet(database, work, out)


def _change(
    database: DatabaseOptions, output: OutputOptions, text: str, change: Callable[[Fleet], Awaitable[None]]
) -> ExitStatus:
    out = Output(output)

    async def work(fleet: Fleet) -> ExitStatus:
        await change(fleet)
        if output.json:
            out.json_line({"account": fleet.account, "state": text.partition(":")[0]})
        else:
            out.note(f"{fleet.account}: {text}")
        return ExitStatus.DONE

    return run_with_fleet(database, work, out)


def gallery(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder of the clips; by default the one of the fleet.")
    ] = None,
    *,
    database: DatabaseOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Write DIR/gallery.html, a page that shows all clips of a fleet.

    DIR is where its clips are, on this machine. If they are in an object
    store, get them with `fleet download DIR` first.
    """
    out = Output(output)

    def write(reader: FleetReader) -> ExitStatus:
        return report(write_page(reader, out, _clip_folder(str(folder) if folder else reader.output_dir)), out)

    return _with_reader(database, out, write)


def _clip_folder(address: str | None) -> Path:
    if address is None:
        raise UsageError("no worker has stored a clip yet: name the folder of the clips, `fleet gallery DIR`")
    if "://" in address:
        raise UsageError(
            f"the clips are in {address}. To show them: omni-async fleet download DIR, then omni-async gallery DIR"
        )
    if not Path(address).is_dir():
        raise UsageError(
            f"{address}: there is no such folder on this machine; name the one of the clips, `gallery DIR`"
        )
    return Path(address)


def download(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the clips.", show_default=False)],
    *,
    store: Store = None,
    database: DatabaseOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Copy all clips of a fleet, and the record of its jobs, into a folder.

    DIR/ledger.db is then an ordinary ledger: `status`, `gallery` and your
    programs read it. Jobs that have not ended stay with the fleet. Run it
    again to add what has been finished since.
    """
    out = Output(output)

    async def work(fleet: Fleet) -> ExitStatus:
        try:
            result = await fleet.download(folder, on_progress=lambda clips: out.note(format_count(clips, "clip")))
        except OSError as error:
            raise UsageError(f"{error.filename or folder}: {error.strerror or error}") from None
        if output.json:
            out.json_line(
                {"folder": str(folder), "jobs": result.jobs, "clips": result.clips, "missing": result.missing}
            )
        else:
            out.result(f"{folder}: {format_count(result.jobs, 'job')}, {format_count(result.clips, 'clip')}")
        for name in result.missing[:_LISTED]:
            out.error(f"{name}: not in the clip store")
        return ExitStatus.FAILED if result.missing else ExitStatus.DONE

    return run_with_fleet(database, work, out, store=store)
