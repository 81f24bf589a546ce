"""The ledger of a folder as `status` prints it: totals first, then a table of jobs, then the commands that help.

`JobTable` lays out some jobs for a width, `LedgerSummary` puts the totals and as many jobs as fit on the screen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from omni_async import JobStatus

from ..formatting import error_without_job, format_count, format_status, format_usd
from ..plain_text import one_line
from .ledger import UNFINISHED
from .summary import shell_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from omni_async import JobRecord, LedgerTotals


STYLES = {
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.UNKNOWN: "bold red",
    JobStatus.DOWNLOAD_FAILED: "yellow",
    JobStatus.TIMED_OUT: "yellow",
    JobStatus.SUBMITTING: "cyan",
    JobStatus.RUNNING: "cyan",
    JobStatus.DOWNLOADING: "cyan",
}

_HEADER = ("status", "key", "task_id", "submits", "cost", "clip")
_RIGHT_ALIGNED = ("submits", "cost")
_GAP = 2  # columns
_INDENT = "  "


class JobTable:
    """Some jobs, laid out for a width. The error of a job is shown below it."""

    def __init__(self, records: Sequence[JobRecord], width: int) -> None:
        self._records = records
        self._width = width
        self._rows = [_cells(record) for record in records]
        self._columns = self._fit_columns()

    def lines(self, console: Console, max_lines: int | None, *, min_jobs: int) -> tuple[list[Text], int]:
        """Return the lines and how many jobs they show: as many as fit, but at least `min_jobs`; None shows all."""
        lines = [self._align([Text(name, style="bold") for name in _HEADER])] if self._columns else []
        for shown, (record, row) in enumerate(zip(self._records, self._rows, strict=True)):
            job_lines = self._job_lines(console, record, row)
            if max_lines is not None and shown >= min_jobs and len(lines) + len(job_lines) > max_lines:
                return lines, shown
            lines += job_lines
        return lines, len(self._records)

    def _fit_columns(self) -> tuple[int, ...]:
        """Return the widths of the columns: all, or those without the clip, whose name repeats the key, or none."""
        widths = [max(len(name), *(row[index].cell_len for row in self._rows)) for index, name in enumerate(_HEADER)]
        for columns in (widths, widths[:-1]):
            if sum(columns) + _GAP * (len(columns) - 1) <= self._width:
                return tuple(columns)
        return ()

    def _job_lines(self, console: Console, record: JobRecord, row: Sequence[Text]) -> list[Text]:
        status, key, task_id, submits, cost, clip = row
        lines = []
        if self._columns:
            lines.append(self._align(row))
        else:
            count = format_count(record.submits, "submit") if submits.plain else ""
            facts = [task_id, Text(count, style=submits.style), cost]
            lines += Text.assemble(status, " ", key).wrap(console, self._width)
            lines += self._indented(console, Text(", ").join(fact for fact in facts if fact.plain))
        if len(self._columns) < len(_HEADER) and clip.plain not in {"", f"{key.plain}.mp4"}:
            lines += self._indented(console, clip)
        error = one_line(error_without_job(record.error, record.key, record.task_id))
        return lines + self._indented(console, Text(error, style=STYLES.get(record.status, "")))

    def _align(self, row: Sequence[Text]) -> Text:
        line = Text(no_wrap=True)
        for name, width, cell in zip(_HEADER, self._columns, row, strict=False):
            padded = cell.copy()
            padded.align("right" if name in _RIGHT_ALIGNED else "left", width)
            line.append_text(padded).append(" " * _GAP)
        line.rstrip()
        return line

    def _indented(self, console: Console, text: Text) -> list[Text]:
        if not text.plain:
            return []
        return [Text.assemble(_INDENT, line) for line in text.wrap(console, max(20, self._width - len(_INDENT)))]


def _cells(record: JobRecord) -> tuple[Text, ...]:
    cost = format_usd(record.total_cost) if record.cost is not None or record.previous_cost else ""
    style = "yellow" if record.ambiguous_submits else ""
    return (
        Text(format_status(record.status), style=STYLES.get(record.status, "")),
        Text(one_line(record.key)),
        Text(one_line(record.task_id or ""), style="dim"),
        Text(f"{record.submits}{'?' if record.ambiguous_submits else ''}" if record.submits else "", style),
        Text(cost),
        Text(", ".join(one_line(Path(path).name) for path in record.paths)),
    )


# Jobs shown however small the screen is: the ones that need attention come first, and fewer would hide them.
_MIN_JOBS = 5

# Lines of the screen kept free for the shell prompt, the empty lines and "... and more".
_RESERVED_LINES = 6

_PAID_TWICE = (
    "A submit got no clear response and was resent with the same idempotency key. "
    "If the server ignores the key, the job was billed twice: omni-async reconcile compares with the bill"
)


class LedgerSummary:
    """The totals of a ledger, and its first jobs of `count`: as many as fit the screen, or all with `shows_all`."""

    def __init__(
        self,
        ledger: Path,
        totals: LedgerTotals,
        records: Sequence[JobRecord],
        *,
        count: int,
        shows_all: bool,
        is_sandbox: bool,
    ) -> None:
        self._ledger = ledger
        self._totals = totals
        self._records = records
        self._count = count
        self._shows_all = shows_all
        self._is_sandbox = is_sandbox

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        totals = list(self._total_lines())
        yield from totals
        if not self._records:
            return
        table = JobTable(self._records, options.max_width)
        others = [*totals, *map(Text, self.next_steps())]
        used = _RESERVED_LINES + sum(len(text.wrap(console, options.max_width)) for text in others)
        max_lines = options.size.height - used if console.is_terminal and not self._shows_all else None
        lines, shown = table.lines(console, max_lines, min_jobs=_MIN_JOBS)
        yield Text()
        yield from lines
        if (more := self._count - shown) > 0:
            yield Text(f"... and {more:,} more (--all, or --status STATUS)", style="dim")

    def line(self) -> str:
        """Return the totals as one line."""
        statuses = [f"{number:,} {format_status(status)}" for status, number in self._totals.by_status.items()]
        return ", ".join([*statuses, f"paid {format_usd(self._totals.cost)}"])

    def _total_lines(self) -> Iterator[Text]:
        totals = self._totals
        kind = " (sandbox: no real money)" if self._is_sandbox else ""
        yield Text.assemble((one_line(str(self._ledger)), "bold"), f": {format_count(totals.jobs, 'job')}{kind}")
        if totals.by_status:
            yield status_counts(totals)
        credit = f" ({totals.credits:,.1f} credits)" if totals.credits else ""
        yield Text(f"paid {format_usd(totals.cost)}{credit}, {format_count(totals.submits, 'submit')}")
        if totals.possibly_paid_twice:
            jobs = format_count(totals.possibly_paid_twice, "job")
            yield Text(f"possibly paid twice: {jobs} (--status possibly-paid-twice). {_PAID_TWICE}", style="yellow")

    def next_steps(self) -> list[str]:
        """Return what can be done about jobs without a clip, each with its command."""
        by_status, folder = self._totals.by_status, str(self._ledger.parent)
        sandbox = ["--sandbox"] if self._is_sandbox else []
        unfinished = sum(by_status.get(status, 0) for status in UNFINISHED)
        failed, unknown = by_status.get(JobStatus.FAILED, 0), by_status.get(JobStatus.UNKNOWN, 0)
        steps = [
            (unfinished, "unfinished. If no other process is working on them:", []),
            (failed, "failed. To retry them:", ["--retry-failed"]),
            (unknown, "unknown. To resubmit them, at the risk of paying twice:", ["--retry-unknown"]),
        ]
        lines = []
        if (unknown or self._totals.possibly_paid_twice) and not self._is_sandbox:
            lines += [
                "To see in the bill whether unclear submits were paid:",
                f"  {shell_command('reconcile', folder)}",
            ]
        for number, text, options in steps:
            if number:
                lines += [f"{number:,} {text}", f"  {shell_command('resume', folder, *options, *sandbox)}"]
        return lines


def status_counts(totals: LedgerTotals) -> Text:
    """Return how many jobs there are of each status, in one line."""
    return Text(", ").join(
        Text(f"{totals.by_status[status]:,} {format_status(status)}", style=STYLES.get(status, ""))
        for status in JobStatus
        if status in totals.by_status
    )
