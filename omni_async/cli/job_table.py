"""A ledger as people read it: the sums first, then jobs, then what can be done about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from omni_async import JobStatus

from . import formatting as words
from .ledger import UNFINISHED
from .output import harmless
from .summary import command

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

_HEAD = ("state", "key", "task_id", "tries", "cost", "clip")
_TO_THE_RIGHT = ("tries", "cost")
_GAP = 2
_INDENT = "  "


class JobTable:
    """Some jobs, laid out for a width. What went wrong with one stands below it."""

    def __init__(self, records: Sequence[JobRecord], width: int) -> None:
        self._records = records
        self._width = width
        self._rows = [_cells(record) for record in records]
        self._columns = self._fitting()

    def lines(self, console: Console, room: int | None, *, least: int) -> tuple[list[Text], int]:
        """Give the lines, and how many jobs they tell of: all, or, of at least so many, those that have room."""
        lines = [self._in_columns([Text(name, style="bold") for name in _HEAD])] if self._columns else []
        for shown, (record, row) in enumerate(zip(self._records, self._rows, strict=True)):
            told = self._of(console, record, row)
            if room is not None and shown >= least and len(lines) + len(told) > room:
                return lines, shown
            lines += told
        return lines, len(self._records)

    def _fitting(self) -> tuple[int, ...]:
        """Give the widths of the columns; without the clips, which are named after the keys, if it must be; or none."""
        widths = [max(len(name), *(row[at].cell_len for row in self._rows)) for at, name in enumerate(_HEAD)]
        for columns in (widths, widths[:-1]):
            if sum(columns) + _GAP * (len(columns) - 1) <= self._width:
                return tuple(columns)
        return ()

    def _of(self, console: Console, record: JobRecord, row: Sequence[Text]) -> list[Text]:
        state, key, task, tries, cost, clip = row
        lines = []
        if self._columns:
            lines.append(self._in_columns(row))
        else:
            count = words.count(record.submits, "try", "tries") if tries.plain else ""
            facts = [task, Text(count, style=tries.style), cost]
            lines += Text.assemble(state, " ", key).wrap(console, self._width)
            lines += self._indented(console, Text(", ").join(fact for fact in facts if fact.plain))
        if len(self._columns) < len(_HEAD) and clip.plain not in {"", f"{key.plain}.mp4"}:
            lines += self._indented(console, clip)
        return lines + self._indented(console, Text(_error(record), style=STYLES.get(record.status, "")))

    def _in_columns(self, row: Sequence[Text]) -> Text:
        line = Text(no_wrap=True)
        for name, width, cell in zip(_HEAD, self._columns, row, strict=False):
            padded = cell.copy()
            padded.align("right" if name in _TO_THE_RIGHT else "left", width)
            line.append_text(padded).append(" " * _GAP)
        line.rstrip()
        return line

    def _indented(self, console: Console, text: Text) -> list[Text]:
        if not text.plain:
            return []
        return [Text.assemble(_INDENT, line) for line in text.wrap(console, max(20, self._width - len(_INDENT)))]


def _cells(record: JobRecord) -> tuple[Text, ...]:
    cost = words.money(record.total_cost) if record.cost is not None or record.previous_cost else ""
    style = "yellow" if record.ambiguous_submits else ""
    return (
        Text(str(record.status), style=STYLES.get(record.status, "")),
        Text(harmless(record.key)),
        Text(harmless(record.task_id or ""), style="dim"),
        Text(f"{record.submits}{'?' if record.ambiguous_submits else ''}" if record.submits else "", style),
        Text(cost),
        Text(", ".join(harmless(Path(path).name) for path in record.paths)),
    )


def _error(record: JobRecord) -> str:
    """Give what went wrong without the name of the job, which stands above it."""
    text = record.error.removeprefix(f"job {record.key!r}")
    if record.task_id:
        text = text.removeprefix(f" (task {record.task_id})")
    return harmless(text.removeprefix(":"))


_LEAST = 5  # jobs that are shown on the smallest screen
_SPACE = 6  # lines of it for the prompt, empty lines and "... and more"

_TWICE = (
    "a submit of each got no clear answer and was sent again under the same idempotency key. Where the server does not "
    "honour that, there are two bills: compare with the account's usage"
)


class LedgerSummary:
    """The sums of a ledger, and some jobs `of` so many; no more of them than fit, unless it `is_whole`."""

    def __init__(
        self,
        ledger: Path,
        totals: LedgerTotals,
        records: Sequence[JobRecord],
        *,
        of: int,
        is_whole: bool,
        is_sandbox: bool,
    ) -> None:
        self._ledger = ledger
        self._totals = totals
        self._records = records
        self._of = of
        self._is_whole = is_whole
        self._is_sandbox = is_sandbox

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sums = list(self._sums())
        yield from sums
        if not self._records:
            return
        listing = JobTable(self._records, options.max_width)
        around = [*sums, *map(Text, self.advice())]
        taken = _SPACE + sum(len(text.wrap(console, options.max_width)) for text in around)
        room = options.size.height - taken if console.is_terminal and not self._is_whole else None
        lines, shown = listing.lines(console, room, least=_LEAST)
        yield Text()
        yield from lines
        if (more := self._of - shown) > 0:
            yield Text(f"... and {more:,} more (--all, or --state STATE)", style="dim")

    def _sums(self) -> Iterator[Text]:
        totals = self._totals
        kind = " of private sandboxes, in play money" if self._is_sandbox else ""
        yield Text.assemble((str(self._ledger), "bold"), f": {words.count(totals.jobs, 'job')}{kind}")
        if totals.by_status:
            named = [status for status in JobStatus if status in totals.by_status]
            counts = [Text(f"{totals.by_status[status]:,} {status}", style=STYLES.get(status, "")) for status in named]
            yield Text(", ").join(counts)
        credit = f" ({totals.credits:,.1f} credits)" if totals.credits else ""
        yield Text(f"paid {words.money(totals.cost)}{credit}, {words.count(totals.submits, 'submit')}")
        if totals.possibly_paid_twice:
            who = words.count(totals.possibly_paid_twice, "job")
            yield Text(f"possibly paid twice: {who} (--state doubtful): {_TWICE}", style="yellow")

    def advice(self) -> list[str]:
        """Give what can be done about jobs without a clip, each with its command."""
        by_status, folder = self._totals.by_status, str(self._ledger.parent)
        sandbox = ["--sandbox"] if self._is_sandbox else []
        kinds = [
            (sum(by_status.get(status, 0) for status in UNFINISHED), "unfinished. If nothing is at work on them:", []),
            (by_status.get(JobStatus.FAILED, 0), "failed. To buy them again:", ["--failed"]),
            (by_status.get(JobStatus.UNKNOWN, 0), "unknown. To send them again, perhaps paying twice:", ["--unknown"]),
        ]
        lines = []
        for number, what, options in kinds:
            if number:
                lines += [f"{number:,} {what}", f"  {command('resume', folder, *options, *sandbox)}"]
        return lines
