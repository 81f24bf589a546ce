"""The last words of a run, word for word."""

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


def tally(total: int, *, done: int = 0, failed: int = 0) -> RunTotals:
    """Make a tally."""
    made = RunTotals(total)
    for number in range(done + failed):
        error = "" if number < done else "refused"
        made.add(JobResult(key=f"k{number}", line=number + 1, status=JobStatus.COMPLETED, error=error))
    return made


def ending(status: ExitStatus, sums: RunTotals, **changes: Any) -> RunSummary:
    """Make an ending."""
    facts: dict[str, Any] = {
        "reason": "no credit",
        "is_stopped": True,
        "sums": Statistics(cost=1234.5),
        "elapsed": 192.0,
        "folder": Path("out"),
        "accepted": 0,
        "in_doubt": 0,
        "commands": FollowUpCommands.same(failed="--retry-failed", unknown="--unknown"),
        "is_sum": True,
    }
    return RunSummary(status=status, tally=sums, **(facts | changes))


def test_a_run_that_is_done_says_no_more_than_the_sum() -> None:
    """What was made, where, for how much and in what time; and nothing about going on."""
    done = ending(ExitStatus.DONE, tally(1200, done=1200))
    assert done.describe() == "1,200 of 1,200 clips in out, $1,234.50, 3 min 12 s"
    assert done.how_to_go_on() == []
    assert done.as_json()["stopped"] is None


def test_what_failed_is_bought_again_only_when_asked_for() -> None:
    """A run with failures names the command that buys them again, and another for those of which nobody knows."""
    sums = tally(3, done=2, failed=1)
    failed = ending(ExitStatus.FAILED, sums)
    assert failed.describe() == "2 of 3 clips in out, 1 failed, $1,234.50, 3 min 12 s"
    assert failed.how_to_go_on() == [
        "What failed is not bought again by itself. To buy it again:",
        "  omni-async batch 'my prompts.txt' -o out --retry-failed",
    ]
    sums = tally(3, done=2)
    sums.add(JobResult(key="k", line=3, status=JobStatus.UNKNOWN, error="nobody knows"))
    unknown = ending(ExitStatus.FAILED, sums)
    assert unknown.describe() == "2 of 3 clips in out, 1 unknown, $1,234.50, 3 min 12 s"
    assert unknown.how_to_go_on() == [
        "Of what is unknown, look at the account's usage first. To send it again, perhaps paying twice:",
        "  omni-async batch 'my prompts.txt' -o out --unknown",
    ]
    assert sums.status() is ExitStatus.FAILED


def test_a_stopped_run_says_why_and_how_to_go_on() -> None:
    """The reason, then the very command that was given, quoted for a shell."""
    assert ending(ExitStatus.STOPPED, tally(9, done=2)).how_to_go_on() == [
        "stopped early: no credit",
        "left: 7 not sent. Go on:",
        "  omni-async batch 'my prompts.txt' -o out",
    ]


def test_what_is_left_is_told_apart() -> None:
    """What is accepted is not paid again, of what was sent without an answer nobody knows, the rest was not sent."""
    said = ending(ExitStatus.INTERRUPTED, tally(9, done=2), accepted=2, in_doubt=1)
    assert said.how_to_go_on() == [
        "interrupted",
        "left: 2 accepted (not paid again), 1 sent without an answer, 4 not sent. Go on:",
        "  omni-async batch 'my prompts.txt' -o out",
    ]
    told = said.as_json()
    assert (told["left"], told["left_accepted"], told["left_in_doubt"]) == (7, 2, 1)


def test_a_sandbox_keeps_nothing() -> None:
    """What a private sandbox had accepted is gone with it."""
    said = ending(ExitStatus.INTERRUPTED, tally(9, done=2), accepted=2, is_sandbox=True)
    assert said.how_to_go_on()[1] == "7 left. Go on:"


def test_a_task_that_was_not_brought_home_is_told() -> None:
    """Where nothing is left but tasks on the server, not all was fetched."""
    late = ending(ExitStatus.STOPPED, tally(1), is_stopped=False, reason="it is late", accepted=1)
    assert late.how_to_go_on()[:2] == [
        "not all was fetched: it is late",
        "left: 1 accepted (not paid again). Go on:",
    ]


@pytest.mark.parametrize("given", [["--max-cost", "5"], ["--max-cost=5"]])
def test_a_limit_is_for_the_user_to_raise(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    """The command that goes on after the limit on the cost leaves a place for a higher one."""
    monkeypatch.setattr(sys, "argv", ["omni-async", "batch", "p.txt", *given, "-v"])
    said = ending(
        ExitStatus.STOPPED, tally(9, done=2), is_limit=True, commands=FollowUpCommands.same(), reason="no room"
    )
    opened = shlex.join(["--max-cost=..."] if len(given) == 1 else ["--max-cost", "..."])
    assert said.how_to_go_on() == [
        "stopped early: no room",
        "left: 7 not sent. Go on with a higher limit:",
        f"  omni-async batch p.txt {opened} -v",
    ]
