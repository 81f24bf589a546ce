"""The last words of a run: what was made, what failed and why, what it cost, and how to go on."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import words
from .status import Status

if TYPE_CHECKING:
    from omni_async import Statistics

    from .output import Output
    from .tally import Tally

_NAMED_TASKS = 20


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended. `is_sum` tells that the sum itself is the result.

    `open_tasks` can be fetched with the options in `address`; so many more as `in_doubt` may have been accepted.
    """

    status: Status
    reason: str
    is_stopped: bool
    tally: Tally
    sums: Statistics
    elapsed: float
    folder: Path
    open_tasks: tuple[str, ...]
    in_doubt: int
    address: tuple[str, ...]
    is_sum: bool

    def tell(self, output: Output) -> None:
        """Tell all of it: the sum first, then failures, then how to go on."""
        if output.style.json:
            output.record({"summary": self.as_json()})
        elif self.is_sum and not output.style.quiet:
            output.result(self.in_words())
        else:
            output.note(self.in_words())
        for outcome in self.tally.failures:
            output.problem(outcome.in_words())
        if (more := self.tally.failed - len(self.tally.failures)) > 0:
            output.problem(f"... and {more:,} more failed")
        for line in self.how_to_go_on():
            output.problem(line)

    def in_words(self) -> str:
        """Give the sum as one line."""
        made = f"{self.tally.done:,} of {words.count(self.tally.total, 'clip')} in {self.folder}"
        there = f"{self.tally.there:,} of them from before" if self.tally.there else ""
        failed = f"{self.tally.failed:,} failed" if self.tally.failed else ""
        return ", ".join(filter(None, [made, there, failed, words.money(self.sums.cost), words.span(self.elapsed)]))

    def as_json(self) -> dict[str, Any]:
        """Give the sum for programs."""
        return {
            "total": self.tally.total,
            "clips": self.tally.done,
            "there_before": self.tally.there,
            "failed": self.tally.failed,
            "left": self.tally.left,
            "cost": self.sums.cost,
            "credits": self.sums.credits,
            "seconds": round(self.elapsed, 3),
            "folder": str(self.folder),
            "exit": int(self.status),
            "stopped": self._why() or None,
            "open_tasks": list(self.open_tasks),
            "in_doubt": self.in_doubt,
            "submits": self.sums.submits,
            "refused": self.sums.refused,
            "doubtful": self.sums.doubtful,
            "checks": self.sums.checks,
            "bytes": self.sums.bytes,
        }

    def how_to_go_on(self) -> list[str]:
        """Say why it ended early, if it did, and with which commands it goes on."""
        lines = [self._why()] if self._why() else []
        if self.open_tasks:
            named = self.open_tasks[:_NAMED_TASKS]
            more = len(self.open_tasks) - len(named)
            lines.append(
                f"{words.count(len(self.open_tasks), 'task')} accepted, but not fetched. Fetch without paying:"
            )
            lines.append(f"  {command('fetch', *named, '-o', str(self.folder), *self.address)}")
            lines += [f"  (and {more:,} more)"] if more else []
        if self.in_doubt:
            lines.append(f"{self.in_doubt:,} may have been accepted just now: look at the account before going on")
        if not_sent := self.tally.left - len(self.open_tasks):
            lines += [f"{not_sent:,} not accepted yet. Go on with:", f"  {command(*sys.argv[1:])}"]
        return lines

    def _why(self) -> str:
        match self.status:
            case Status.INTERRUPTED:
                return "interrupted"
            case Status.STOPPED:
                return f"{'stopped early' if self.is_stopped else 'not all was fetched'}: {self.reason}"
            case _:
                return ""


def command(*arguments: str) -> str:
    """Give the command line that runs this program with these arguments."""
    name = Path(sys.argv[0]).stem
    program = ["omni-async"] if name == "omni-async" else ["python", "-m", "omni_async"]
    return shlex.join([*program, *arguments])
