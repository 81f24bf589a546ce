"""A ledger as people read it: the sums first, then jobs as a table, or one below the other where it is narrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from omni_async import JobStatus

from . import words
from .ending import command
from .ledger import UNFINISHED
from .output import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from omni_async import JobRecord, LedgerTotals

_NARROW = 76  # columns; below that a table has no room for what went wrong

_STYLES = {
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.UNKNOWN: "bold red",
    JobStatus.UNDELIVERED: "yellow",
    JobStatus.OVERDUE: "yellow",
    JobStatus.SUBMITTING: "cyan",
    JobStatus.RUNNING: "cyan",
    JobStatus.DOWNLOADING: "cyan",
}

_TWICE = (
    "a submit of each got no clear answer and was sent again under the same idempotency key. Where the server does not "
    "honour that, there are two bills: compare with the account's usage"
)


class Sheet:
    """The sums of a ledger, and some jobs `of` so many."""

    def __init__(
        self, ledger: Path, totals: LedgerTotals, records: Sequence[JobRecord], *, of: int, is_sandbox: bool
    ) -> None:
        self._ledger = ledger
        self._totals = totals
        self._records = records
        self._of = of
        self._is_sandbox = is_sandbox

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._sums()
        if self._records:
            yield Text()
            yield from self._cards() if options.max_width < _NARROW else [self._table()]
        if (more := self._of - len(self._records)) > 0:
            yield Text(f"... and {more:,} more (--all, or --state STATE)", style="dim")
        yield from self._advice()

    # The sums

    def _sums(self) -> Iterator[Text]:
        totals = self._totals
        kind = " of private sandboxes, in play money" if self._is_sandbox else ""
        yield Text.assemble((str(self._ledger), "bold"), f": {words.count(totals.jobs, 'job')}{kind}")
        if totals.by_status:
            ordered = sorted(totals.by_status.items(), key=lambda each: list(JobStatus).index(each[0]))
            counts = [Text(f"{number:,} {status}", style=_STYLES.get(status, "")) for status, number in ordered]
            yield Text(", ").join(counts)
        credit = f" ({totals.credits:,.1f} credits)" if totals.credits else ""
        paid = f"paid {words.money(totals.cost)}{credit}, {words.count(totals.submits, 'submit')}"
        yield Text(paid)
        if totals.possibly_paid_twice:
            who = words.count(totals.possibly_paid_twice, "job")
            yield Text(f"possibly paid twice: {who} (--state doubtful): {_TWICE}", style="yellow")

    def _advice(self) -> Iterator[Text]:
        by_status, folder = self._totals.by_status, str(self._ledger.parent)
        sandbox = ["--sandbox"] if self._is_sandbox else []
        unfinished = sum(by_status.get(status, 0) for status in UNFINISHED)
        advice = [
            (unfinished, "unfinished; if nothing is at work on them:", ()),
            (by_status.get(JobStatus.FAILED, 0), "failed; to buy them again:", ("--failed",)),
            (by_status.get(JobStatus.UNKNOWN, 0), "unknown; to send them again, perhaps paying twice:", ("--unknown",)),
        ]
        told = [(number, what, options) for number, what, options in advice if number]
        if told:
            yield Text()
        for number, what, options in told:
            yield Text(f"{number:,} {what} {command('resume', folder, *options, *sandbox)}")

    # The jobs

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("state", no_wrap=True)
        table.add_column("key", overflow="fold", min_width=12, max_width=36)
        table.add_column("task_id", overflow="fold", min_width=12)
        table.add_column("tries", justify="right", no_wrap=True)
        table.add_column("cost", justify="right", no_wrap=True)
        table.add_column("clip or error", overflow="fold", min_width=20, ratio=1)
        for record in self._records:
            table.add_row(*self._cells(record))
        return table

    def _cards(self) -> Iterator[RenderableType]:
        for record in self._records:
            state, key, task, tries, cost, result = self._cells(record)
            yield Text.assemble(state, " ", key)
            facts = [task, Text(words.count(record.submits, "try", "tries")) if tries.plain else tries, cost]
            for fact in (Text(", ").join(each for each in facts if each.plain), result):
                if fact.plain:
                    yield _indented(fact)

    @staticmethod
    def _cells(record: JobRecord) -> tuple[Text, ...]:
        style = _STYLES.get(record.status, "")
        cost = words.money(record.paid) if record.cost is not None or record.earlier_cost else ""
        twice = "?" if record.doubtful else ""
        return (
            Text(str(record.status), style=style),
            Text(harmless(record.key)),
            Text(harmless(record.task_id or ""), style="dim"),
            Text(f"{record.submits}{twice}" if record.submits else "", style="yellow" if twice else ""),
            Text(cost),
            Text(harmless(_result(record)), style="" if record.paths else style),
        )


def _indented(text: Text) -> Table:
    grid = Table.grid(padding=0)
    grid.add_column(width=2)
    grid.add_column(overflow="fold")
    grid.add_row("", text)
    return grid


def _result(record: JobRecord) -> str:
    """Give the clip, or what went wrong without the name of the job, which stands beside it."""
    if record.error:
        return record.error.removeprefix(f"job {record.key!r}: ").removeprefix(f"job {record.key!r} ")
    return ", ".join(Path(path).name for path in record.paths)
