"""A fleet as `fleet status` shows it: the sums of each account, who leads it and how, and what each worker does."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from omni_async import JobStatus

from ..formatting import format_count, format_duration, format_status, format_usd
from ..plain_text import one_line
from .job_table import JobTable, status_counts
from .ledger import UNFINISHED, totals_json
from .summary import shell_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from rich.console import Console, ConsoleOptions, RenderResult

    from omni_async import JobRecord

    from ..fleet import AccountStatus, FleetStatistics, WorkerStatus
    from .output import Output

_HEADER = ("worker", "process", "role", "leads", "downloading", "downloaded", "seen")
_RIGHT_ALIGNED = {"downloading"}
_GAP = "  "
# Seconds after which a worker that did not report itself is called silent. It does so every 2 s.
_SILENT = 6.0
_SEEN = {False: "dim", True: "yellow"}


class FleetView:
    """Shows a fleet, once or again and again: on a terminal in place, else as lines. Use it in a `with` block."""

    def __init__(self, output: Output, *, is_watched: bool) -> None:
        self._output = output
        self._live: Live | None = None
        if is_watched and output.is_live:
            self._live = Live(console=output.terminal, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._stack.enter_context(self._live)
            self._stack.enter_context(self._output.above_live_display())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, statistics: FleetStatistics, place: str) -> None:
        """Show the present state. `place` is the database, without a password."""
        content = Group(*fleet_lines(statistics, place))
        if self._live is not None:
            self._live.update(content, refresh=True)
        else:
            self._output.render(content)


def fleet_lines(statistics: FleetStatistics, place: str) -> Iterator[Text]:
    """Yield the lines that people see."""
    yield Text(one_line(place), style="dim")
    if not statistics.accounts:
        yield Text("no jobs yet: omni-async fleet enqueue FILE")
    for account in statistics.accounts:
        yield from _account_lines(account)
    yield Text()
    if statistics.workers:
        leaders = {account.account: account.leader for account in statistics.accounts}
        rows = [_worker_cells(worker, leaders) for worker in statistics.workers]
        yield from _align([list(map(Text, _HEADER)), *rows])
    elif any(status in UNFINISHED for status in statistics.totals.by_status):
        yield Text("no worker is running: omni-async fleet worker --store DIR", style="yellow")


def _account_lines(account: AccountStatus) -> Iterator[Text]:
    totals = account.totals
    yield Text()
    yield Text.assemble((one_line(account.account), "bold"), f": {format_count(totals.jobs, 'job')}")
    if totals.by_status:
        yield status_counts(totals)
    limit = f" of at most {format_usd(account.max_cost)}" if account.max_cost is not None else ""
    yield Text(f"paid {format_usd(totals.cost)}{limit}, {format_count(totals.submits, 'submit')}")
    yield _leader_line(account)
    if account.stopped:
        yield Text(f"nothing is submitted: {one_line(account.stopped)}", style="yellow")
    elif account.state != "running":
        yield Text(f"{account.state}: nothing is submitted. To continue: {_command(account, 'resume')}", style="yellow")
    yield from (Text(line) for line in next_steps(account))


def _leader_line(account: AccountStatus) -> Text:
    if account.leader is None:
        return Text(f"no leader at the moment (epoch {account.epoch})")
    facts = [
        f"leader {one_line(account.leader)}, epoch {account.epoch}, lease {account.lease_seconds:.0f} s",
        f"learned: {account.submits_per_minute:,.0f} submits per minute" if account.submits_per_minute else "",
        f"at most {account.max_in_flight:,} tasks at once" if account.max_in_flight else "",
    ]
    return Text(", ".join(filter(None, facts)))


class JobList:
    """Jobs of one status as a table: the first ones of `count`."""

    def __init__(self, records: Sequence[JobRecord], status: JobStatus, count: int) -> None:
        self._records = records
        self._status = status
        self._count = count

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._records:
            yield Text(f"no job is {format_status(self._status)}")
            return
        lines, shown = JobTable(self._records, options.max_width).lines(console, None, min_jobs=0)
        yield from lines
        if self._count > shown:
            yield Text(f"... and {self._count - shown:,} more (--json lists all)", style="dim")


def next_steps(account: AccountStatus) -> list[str]:
    """Return what can be done about jobs without a clip, each with its command."""
    by_status = account.totals.by_status
    ended = by_status.get(JobStatus.FAILED, 0) + by_status.get(JobStatus.CANCELLED, 0)
    resumable = by_status.get(JobStatus.TIMED_OUT, 0) + by_status.get(JobStatus.DOWNLOAD_FAILED, 0)
    steps = [
        (ended, "failed or cancelled. To submit them again:", ["--retry-failed"]),
        (
            by_status.get(JobStatus.UNKNOWN, 0),
            "unknown (fleet status --status unknown). To submit them again, at the risk of paying twice:",
            ["--retry-unknown"],
        ),
        (resumable, "timed out or not downloaded. To continue them without paying again:", []),
    ]
    lines = []
    for number, text, options in steps:
        if number:
            lines += [f"{number:,} {text}", f"  {_command(account, 'resume', *options)}"]
    return lines


def _command(account: AccountStatus, *arguments: str) -> str:
    options = [] if account.account == "default" else ["--account", account.account]
    return shell_command("fleet", *arguments, *options)


def _worker_cells(worker: WorkerStatus, leaders: dict[str, str | None]) -> list[Text]:
    leads = [account for account in worker.leads if leaders.get(account) == worker.worker]  # not as it said long ago
    is_silent = worker.seen_seconds > _SILENT
    return [
        Text(one_line(worker.worker)),
        Text(f"{one_line(worker.host)}:{worker.pid}", style="dim"),
        Text(one_line(worker.role)),
        Text(", ".join(map(one_line, leads)), style="bold"),
        Text("" if is_silent else f"{worker.fetching:,}"),
        Text(f"{format_count(worker.fetched, 'clip')}, {worker.bytes / 1e6:,.1f} MB"),
        Text(f"{'silent, ' if is_silent else ''}{format_duration(worker.seen_seconds)} ago", _SEEN[is_silent]),
    ]


def _align(rows: list[list[Text]]) -> Iterator[Text]:
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = Text(no_wrap=True, style="bold" if number == 0 else "")
        for name, width, cell in zip(_HEADER, widths, row, strict=True):
            cell.align("right" if name in _RIGHT_ALIGNED else "left", width)
            line.append_text(cell).append(_GAP)
        line.rstrip()
        yield line


# For programs


def as_json(statistics: FleetStatistics, place: str) -> dict[str, Any]:
    """Return the fields that --json prints. Programs rely on them; fields may only be added."""
    return {
        "database": place,
        "accounts": [_account_json(account) for account in statistics.accounts],
        "workers": [asdict(worker) for worker in statistics.workers],
        "summary": totals_json(statistics.totals),
    }


def _account_json(account: AccountStatus) -> dict[str, Any]:
    names = ("account", "server", "leader", "epoch", "lease_seconds", "state", "max_cost")
    fields: dict[str, Any] = {name: getattr(account, name) for name in names}
    return fields | {
        "stopped": account.stopped or None,
        "submits_per_minute": account.submits_per_minute,
        "max_in_flight": account.max_in_flight,
        "totals": totals_json(account.totals),
    }
