"""The last words of a run: what was made, what failed and why, what it cost, and how to go on."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import formatting as words
from .exit_status import ExitStatus

if TYPE_CHECKING:
    from omni_async import Statistics

    from .output import Output
    from .results import RunTotals


@dataclass(frozen=True, kw_only=True)
class FollowUpCommands:
    """The arguments with which a run goes on, and with which it buys again what failed or is unknown; () for none."""

    resume: tuple[str, ...]
    failed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @classmethod
    def same(cls, *, failed: str = "", unknown: str = "") -> FollowUpCommands:
        """Give those of a run that goes on by being run again; with such options it buys again."""
        again = tuple(sys.argv[1:])
        return cls(resume=again, failed=_with(again, failed), unknown=_with(again, unknown))


def _with(arguments: tuple[str, ...], option: str) -> tuple[str, ...]:
    return () if not option else arguments if option in arguments else (*arguments, option)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a run ended. `is_sum` tells that the sum itself is the result.

    Of the jobs that are left, so many are `accepted` by the server, and so many `in_doubt`.
    """

    status: ExitStatus
    reason: str
    is_stopped: bool
    is_limit: bool = False  # what stopped it is the user's own ceiling on the cost
    is_sandbox: bool = False
    tally: RunTotals
    sums: Statistics
    elapsed: float
    folder: Path
    accepted: int
    in_doubt: int
    commands: FollowUpCommands
    is_sum: bool

    def report(self, output: Output) -> None:
        """Tell all of it: the sum first, then failures, then how to go on."""
        if output.style.json:
            output.record({"summary": self.as_json()})
        elif self.is_sum and not output.style.quiet:
            output.result(self.describe())
        else:
            output.note(self.describe())
        for outcome in self.tally.failures:
            output.problem(outcome.describe())
        if (more := self.tally.failed + self.tally.unknown - len(self.tally.failures)) > 0:
            output.problem(f"... and {more:,} more failed")
        for line in self.how_to_go_on():
            output.problem(line)

    def describe(self) -> str:
        """Give the sum as one line."""
        tally = self.tally
        parts = [
            f"{tally.done:,} of {words.count(tally.total, 'clip')} in {self.folder}",
            f"{tally.there:,} of them from before" if tally.there else "",
            f"{tally.failed:,} failed" if tally.failed else "",
            f"{tally.unknown:,} unknown" if tally.unknown else "",
        ]
        return ", ".join(filter(None, [*parts, words.money(self.sums.cost), words.span(self.elapsed)]))

    def as_json(self) -> dict[str, Any]:
        """Give the sum for programs."""
        return {
            "total": self.tally.total,
            "clips": self.tally.done,
            "there_before": self.tally.there,
            "failed": self.tally.failed,
            "unknown": self.tally.unknown,
            "left": self.tally.left,
            "left_accepted": self.accepted,
            "left_in_doubt": self.in_doubt,
            "cost": self.sums.cost,
            "credits": self.sums.credits,
            "seconds": round(self.elapsed, 3),
            "folder": str(self.folder),
            "exit": int(self.status),
            "stopped": self._why() or None,
            "submits": self.sums.submits,
            "refused": self.sums.rate_limited,
            "doubtful": self.sums.ambiguous_submits,
            "checks": self.sums.checks,
            "bytes": self.sums.bytes_downloaded,
        }

    def how_to_go_on(self) -> list[str]:
        """Say why it ended early, if it did, and with which commands it goes on."""
        lines = [self._why()] if self._why() else []
        if self.tally.left:
            go_on = _with_open_limit(self.commands.resume) if self.is_limit else self.commands.resume
            lines += [f"{self._whats_left()}. Go on{' with a higher limit' if self.is_limit else ''}:"]
            lines += [f"  {command(*go_on)}"]
            return lines
        if self.tally.failed and self.commands.failed:
            lines += ["What failed is not bought again by itself. To buy it again:"]
            lines += [f"  {command(*self.commands.failed)}"]
        if self.tally.unknown and self.commands.unknown:
            lines += ["Of what is unknown, look at the account's usage first. To send it again, perhaps paying twice:"]
            lines += [f"  {command(*self.commands.unknown)}"]
        return lines

    def _whats_left(self) -> str:
        if self.is_sandbox:
            return f"{self.tally.left:,} left"
        unsent = self.tally.left - self.accepted - self.in_doubt
        parts = [
            f"{self.accepted:,} accepted (not paid again)" if self.accepted else "",
            f"{self.in_doubt:,} sent without an answer" if self.in_doubt else "",
            f"{unsent:,} not sent" if unsent > 0 else "",
        ]
        return f"left: {', '.join(filter(None, parts))}"

    def _why(self) -> str:
        match self.status:
            case ExitStatus.INTERRUPTED:
                return "interrupted"
            case ExitStatus.STOPPED if self.reason:
                return f"{'stopped early' if self.is_stopped else 'not all was fetched'}: {self.reason}"
            case ExitStatus.USAGE:
                return f"stopped before anything was sent: {self.reason}"
            case _:
                return ""


def _with_open_limit(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Leave the amount to the user, who has to think of one."""
    opened = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--max-cost":
            opened[place + 1] = "..."
        elif argument.startswith("--max-cost="):
            opened[place] = "--max-cost=..."
    return tuple(opened)


def command(*arguments: str) -> str:
    """Give the command line that runs this program with these arguments."""
    name = Path(sys.argv[0]).stem
    program = ["omni-async"] if name == "omni-async" else ["python", "-m", "omni_async"]
    return shlex.join([*program, *arguments])
