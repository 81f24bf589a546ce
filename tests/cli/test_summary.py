"""The summary of a run: its exact text and its JSON."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from omni_async import JobStatus, Statistics
from omni_async.cli.exit_status import ExitStatus
from omni_async.cli.results import JobResult, RunTotals
from omni_async.cli.summary import FollowUpCommands, RunSummary


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/omni-async", "batch", "my prompts.txt", "-o", "out"])


def totals_of(total: int, *, completed: int = 0, failed: int = 0) -> RunTotals:
    """Return the totals of a run."""
    totals = RunTotals(total)
    for number in range(completed + failed):
        error = "" if number < completed else "refused"
        totals.add(JobResult(key=f"k{number}", line=number + 1, status=JobStatus.COMPLETED, error=error))
    return totals


def summary_of(status: ExitStatus, totals: RunTotals, **changes: Any) -> RunSummary:
    """Return the summary of a run."""
    facts: dict[str, Any] = {
        "reason": "no credit",
        "is_stopped": True,
        "statistics": Statistics(cost=1234.5),
        "elapsed": 192.0,
        "folder": Path("out"),
        "accepted": 0,
        "ambiguous": 0,
        "commands": FollowUpCommands.same_command(can_retry=True),
        "is_result": True,
    }
    return RunSummary(exit_status=status, totals=totals, **(facts | changes))


def test_a_complete_run_prints_only_its_totals() -> None:
    """Clips, folder, cost and duration, and no next steps."""
    done = summary_of(ExitStatus.DONE, totals_of(1200, completed=1200))
    assert done.describe() == "1,200 of 1,200 clips in out, $1,234.50, 3 min 12 s"
    assert done.next_steps() == []
    assert done.as_json()["stop_reason"] is None


def test_failed_and_unknown_jobs_have_a_command_to_resubmit_them() -> None:
    """A run with failures names the command that retries them, and another one for jobs with an unknown outcome."""
    totals = totals_of(3, completed=2, failed=1)
    failed = summary_of(ExitStatus.FAILED, totals)
    assert failed.describe() == "2 of 3 clips in out, 1 failed, $1,234.50, 3 min 12 s"
    assert failed.next_steps() == [
        "Failed jobs are not retried automatically. To retry them:",
        "  omni-async batch 'my prompts.txt' -o out --retry-failed",
    ]
    totals = totals_of(3, completed=2)
    totals.add(JobResult(key="k", line=3, status=JobStatus.UNKNOWN, error="no response"))
    unknown = summary_of(ExitStatus.FAILED, totals)
    assert unknown.describe() == "2 of 3 clips in out, 1 unknown, $1,234.50, 3 min 12 s"
    assert unknown.next_steps() == [
        "Unknown jobs may have been accepted and billed. To compare with the bill:",
        "  omni-async reconcile out",
        "To resubmit unknown jobs, at the risk of paying twice:",
        "  omni-async batch 'my prompts.txt' -o out --retry-unknown",
    ]
    assert totals.exit_status() is ExitStatus.FAILED


def test_a_stopped_run_prints_the_reason_and_the_command_to_continue() -> None:
    """The reason, then the command that was run, quoted for a shell."""
    assert summary_of(ExitStatus.STOPPED, totals_of(9, completed=2)).next_steps() == [
        "stopped early: no credit",
        "unfinished: 7 not sent. To continue:",
        "  omni-async batch 'my prompts.txt' -o out",
    ]


def test_unfinished_jobs_are_counted_by_what_they_may_cost() -> None:
    """Accepted jobs are not charged again, jobs sent without a response may be, and the rest was not sent."""
    result = summary_of(ExitStatus.INTERRUPTED, totals_of(9, completed=2), accepted=2, ambiguous=1)
    assert result.next_steps() == [
        "interrupted",
        "unfinished: 2 accepted (not charged again), 1 sent without a response, 4 not sent. To continue:",
        "  omni-async batch 'my prompts.txt' -o out",
    ]
    fields = result.as_json()
    assert (fields["unfinished"], fields["unfinished_accepted"], fields["unfinished_ambiguous"]) == (7, 2, 1)


def test_jobs_accepted_by_a_private_sandbox_are_not_counted() -> None:
    """The tasks of a private sandbox end with it."""
    result = summary_of(ExitStatus.INTERRUPTED, totals_of(9, completed=2), accepted=2, is_sandbox=True)
    assert result.next_steps()[1] == "7 unfinished. To continue:"


def test_a_clip_that_was_not_downloaded_is_reported() -> None:
    """If only accepted tasks are unfinished, the summary says that clips could not be downloaded."""
    late = summary_of(ExitStatus.STOPPED, totals_of(1), is_stopped=False, reason="it is late", accepted=1)
    assert late.next_steps()[:2] == [
        "some clips could not be downloaded: it is late",
        "unfinished: 1 accepted (not charged again). To continue:",
    ]


@pytest.mark.parametrize("given", [["--max-cost", "5"], ["--max-cost=5"]])
def test_the_user_chooses_the_higher_cost_limit(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    """The command that continues after the cost limit has "..." in place of the amount."""
    monkeypatch.setattr(sys, "argv", ["omni-async", "batch", "p.txt", *given, "-v"])
    result = summary_of(
        ExitStatus.STOPPED,
        totals_of(9, completed=2),
        is_cost_limit=True,
        commands=FollowUpCommands.same_command(),
        reason="no room",
    )
    opened = shlex.join(["--max-cost=..."] if len(given) == 1 else ["--max-cost", "..."])
    assert result.next_steps() == [
        "stopped early: no room",
        "unfinished: 7 not sent. To continue with a higher limit:",
        f"  omni-async batch p.txt {opened} -v",
    ]
