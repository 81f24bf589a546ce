"""The summary of a run: its totals, its failures, its cost, and the command that continues it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..formatting import format_count, format_duration, format_usd
from ..plain_text import is_harmless, one_line
from .exit_status import ExitStatus

if TYPE_CHECKING:
    from omni_async import Statistics

    from .output import Output
    from .results import RunTotals


@dataclass(frozen=True, kw_only=True)
class FollowUpCommands:
    """The arguments of the commands that continue a run, or resubmit its failed or unknown jobs; () for none."""

    resume: tuple[str, ...]
    retry_failed: tuple[str, ...] = ()
    retry_unknown: tuple[str, ...] = ()

    @classmethod
    def same_command(cls, *, can_retry: bool = False) -> FollowUpCommands:
        """Return the commands for a run that continues when the same command is run again.

        `can_retry` says whether the command takes --retry-failed and --retry-unknown.
        """
        arguments = tuple(sys.argv[1:])
        if not can_retry:
            return cls(resume=arguments)
        return cls(
            resume=arguments,
            retry_failed=_with_option(arguments, "--retry-failed"),
            retry_unknown=_with_option(arguments, "--retry-unknown"),
        )


def _with_option(arguments: tuple[str, ...], option: str) -> tuple[str, ...]:
    return arguments if option in arguments else (*arguments, option)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a run ended.

    `accepted` and `ambiguous` are how many of the unfinished jobs the server has accepted, and how many were sent
    without a response. `is_result` says that the summary itself is the result, printed on stdout.
    """

    exit_status: ExitStatus
    reason: str
    is_stopped: bool
    is_cost_limit: bool = False  # it was stopped by the user's own --max-cost
    is_sandbox: bool = False
    totals: RunTotals
    statistics: Statistics
    elapsed: float  # seconds
    folder: Path
    accepted: int
    ambiguous: int
    commands: FollowUpCommands
    is_result: bool

    def report(self, output: Output) -> None:
        """Print everything: the totals first, then the failures, then the next steps."""
        if output.options.json:
            output.json_line({"summary": self.as_json()})
        elif self.is_result and not output.options.quiet:
            output.result(self.describe())
        else:
            output.note(self.describe())
        for failure in self.totals.failures:
            output.error(failure.describe())
        if (more := self.totals.failed + self.totals.unknown - len(self.totals.failures)) > 0:
            output.error(f"... and {more:,} more failed")
        for line in self.next_steps():
            output.error(line)

    def describe(self) -> str:
        """Return the totals as one line."""
        totals = self.totals
        parts = [
            f"{totals.completed:,} of {format_count(totals.total, 'clip')} in {self.folder}",
            f"{totals.already_complete:,} already complete" if totals.already_complete else "",
            f"{totals.failed:,} failed" if totals.failed else "",
            f"{totals.unknown:,} unknown" if totals.unknown else "",
        ]
        return ", ".join(filter(None, [*parts, format_usd(self.statistics.cost), format_duration(self.elapsed)]))

    def as_json(self) -> dict[str, Any]:
        """Return the fields that --json prints."""
        return {
            "total": self.totals.total,
            "clips": self.totals.completed,
            "already_complete": self.totals.already_complete,
            "failed": self.totals.failed,
            "unknown": self.totals.unknown,
            "unfinished": self.totals.unfinished,
            "unfinished_accepted": self.accepted,
            "unfinished_ambiguous": self.ambiguous,
            "cost": self.statistics.cost,
            "credits": self.statistics.credits,
            "seconds": round(self.elapsed, 3),
            "folder": str(self.folder),
            "exit_status": int(self.exit_status),
            "stop_reason": self._stop_reason() or None,
            "submits": self.statistics.submits,
            "rate_limited": self.statistics.rate_limited,
            "ambiguous_submits": self.statistics.ambiguous_submits,
            "checks": self.statistics.checks,
            "bytes_downloaded": self.statistics.bytes_downloaded,
        }

    def next_steps(self) -> list[str]:
        """Return why the run ended early, if it did, and the commands that continue it."""
        lines = [self._stop_reason()] if self._stop_reason() else []
        if self.totals.unfinished:
            arguments = self.commands.resume
            if self.is_cost_limit:
                lines.append(f"{self._describe_unfinished()}. To continue with a higher limit:")
                arguments = _with_open_limit(arguments)
            else:
                lines.append(f"{self._describe_unfinished()}. To continue:")
            return [*lines, f"  {shell_command(*arguments)}"]
        if self.totals.failed and self.commands.retry_failed:
            lines += ["Failed jobs are not retried automatically. To retry them:"]
            lines += [f"  {shell_command(*self.commands.retry_failed)}"]
        if self.totals.unknown and self.commands.retry_unknown:
            if not self.is_sandbox:
                lines += ["Unknown jobs may have been accepted and billed. To compare with the bill:"]
                lines += [f"  {shell_command('reconcile', str(self.folder))}"]
            lines += ["To resubmit unknown jobs, at the risk of paying twice:"]
            lines += [f"  {shell_command(*self.commands.retry_unknown)}"]
        return lines

    def _describe_unfinished(self) -> str:
        if self.is_sandbox:
            return f"{self.totals.unfinished:,} unfinished"
        unsent = self.totals.unfinished - self.accepted - self.ambiguous
        parts = [
            f"{self.accepted:,} accepted (not charged again)" if self.accepted else "",
            f"{self.ambiguous:,} sent without a response" if self.ambiguous else "",
            f"{unsent:,} not sent" if unsent > 0 else "",
        ]
        return f"unfinished: {', '.join(filter(None, parts))}"

    def _stop_reason(self) -> str:
        match self.exit_status:
            case ExitStatus.INTERRUPTED:
                return "interrupted"
            case ExitStatus.STOPPED if self.reason:
                return f"{'stopped early' if self.is_stopped else 'some clips could not be downloaded'}: {self.reason}"
            case ExitStatus.USAGE:
                return f"stopped before anything was submitted: {self.reason}"
            case _:
                return ""


def _with_open_limit(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the amount of --max-cost by "...": only the user can decide on a higher one."""
    opened = list(arguments)
    for index, argument in enumerate(arguments):
        if argument == "--max-cost":
            opened[index + 1] = "..."
        elif argument.startswith("--max-cost="):
            opened[index] = "--max-cost=..."
    return tuple(opened)


def shell_command(*arguments: str) -> str:
    """Return the command line that runs this program with these arguments, quoted for a shell."""
    name = Path(sys.argv[0]).stem
    program = ["omni-async"] if name == "omni-async" else ["python", "-m", "omni_async"]
    return " ".join(map(_quote, [*program, *arguments]))


def _quote(argument: str) -> str:
    """Return an argument for a shell. What is not harmless to print is quoted as bash and zsh do it: $'...'."""
    if is_harmless(argument):
        return shlex.quote(argument)
    escaped = argument.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{''.join(map(_escape, escaped))}'"


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no valid text
        return f"\\x{ord(character) & 0xFF:02x}"
    # In a shell, "\\x9b" is a byte and no character.
    return f"\\u{ord(character):04x}" if "\x80" <= character <= "\xff" else one_line(character)
