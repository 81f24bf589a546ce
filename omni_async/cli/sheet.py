"""A ledger as people read it: the sums first, then jobs, then what can be done about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from omni_async import JobStatus

from . import words
from .ending import command
from .ledger import UNFINISHED
from .listing import STYLES, Listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderResult

    from omni_async import JobRecord, LedgerTotals

_LEAST = 5  # jobs that are shown on the smallest screen
_SPACE = 6  # lines of it for the prompt, empty lines and "... and more"

_TWICE = (
    "a submit of each got no clear answer and was sent again under the same idempotency key. Where the server does not "
    "honour that, there are two bills: compare with the account's usage"
)


class Sheet:
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
        listing = Listing(self._records, options.max_width)
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
