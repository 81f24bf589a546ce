"""The last words of a run, word for word."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from omni_async import JobStatus, Statistics
from omni_async.cli.ending import Ending
from omni_async.cli.status import Status
from omni_async.cli.tally import Outcome, Tally


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/omni-async", "batch", "my prompts.txt", "-o", "out"])


def tally(total: int, *, done: int = 0, failed: int = 0) -> Tally:
    """Make a tally."""
    made = Tally(total)
    for number in range(done + failed):
        error = "" if number < done else "refused"
        made.add(Outcome(key=f"k{number}", line=number + 1, status=JobStatus.COMPLETED, error=error))
    return made


def ending(status: Status, sums: Tally, **changes: Any) -> Ending:
    """Make an ending."""
    facts: dict[str, Any] = {
        "reason": "no credit",
        "is_stopped": True,
        "sums": Statistics(cost=1234.5),
        "elapsed": 192.0,
        "folder": Path("out"),
        "open_tasks": (),
        "in_doubt": 0,
        "address": (),
        "is_sum": True,
    }
    return Ending(status=status, tally=sums, **(facts | changes))


def test_a_run_that_is_done_says_no_more_than_the_sum() -> None:
    """What was made, where, for how much and in what time; and nothing about going on."""
    done = ending(Status.DONE, tally(1200, done=1200))
    assert done.in_words() == "1,200 of 1,200 clips in out, $1,234.50, 3 min 12 s"
    assert done.how_to_go_on() == []
    assert done.as_json()["stopped"] is None


def test_failures_need_no_command() -> None:
    """A run with failures ends; there is nothing to go on with."""
    failed = ending(Status.FAILED, tally(3, done=2, failed=1))
    assert failed.in_words() == "2 of 3 clips in out, 1 failed, $1,234.50, 3 min 12 s"
    assert failed.how_to_go_on() == []


def test_a_stopped_run_says_why_and_how_to_go_on() -> None:
    """The reason, then the very command that was given, quoted for a shell."""
    assert ending(Status.STOPPED, tally(9, done=2)).how_to_go_on() == [
        "stopped early: no credit",
        "7 not accepted yet. Go on with:",
        "  omni-async batch 'my prompts.txt' -o out",
    ]


def test_open_tasks_are_fetched_not_bought_again() -> None:
    """Accepted tasks come with the command that fetches them; those that may have been accepted are pointed out."""
    assert ending(
        Status.INTERRUPTED,
        tally(9, done=2),
        open_tasks=("t1", "t2"),
        in_doubt=1,
        address=("--base-url", "http://127.0.0.1:8765"),
    ).how_to_go_on() == [
        "interrupted",
        "2 tasks accepted, but not fetched. Fetch without paying:",
        "  omni-async fetch t1 t2 -o out --base-url http://127.0.0.1:8765",
        "1 may have been accepted just now: look at the account before going on",
        "5 not accepted yet. Go on with:",
        "  omni-async batch 'my prompts.txt' -o out",
    ]


def test_a_task_that_was_not_brought_home_is_fetched() -> None:
    """Where nothing is left but tasks on the server, going on means to fetch them."""
    late = ending(Status.STOPPED, tally(1), is_stopped=False, reason="it is late", open_tasks=("t1",))
    assert late.how_to_go_on() == [
        "not all was fetched: it is late",
        "1 task accepted, but not fetched. Fetch without paying:",
        "  omni-async fetch t1 -o out",
    ]


def test_many_open_tasks_are_not_a_wall_of_text() -> None:
    """Twenty ids are named, of more the number."""
    *_, command, more = ending(
        Status.INTERRUPTED, tally(30), open_tasks=tuple(f"t{number}" for number in range(30))
    ).how_to_go_on()
    assert command.split()[2:22] == [f"t{number}" for number in range(20)]
    assert more == "  (and 10 more)"
