"""The display of a run: the live block at any width and encoding, and the plain lines elsewhere."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from omni_async import EventKind, Forecast, JobEvent, JobStatus, Statistics
from omni_async.cli.display import show_progress
from omni_async.cli.options import OutputOptions
from omni_async.cli.output import Output
from omni_async.cli.progress import RunObserver, RunProgress
from omni_async.cli.results import RunTotals
from omni_async.formatting import format_duration, format_estimated_duration
from omni_async.progress.block import LiveBlock
from omni_async.progress.facts import plain_line
from omni_async.progress.snapshot import RunSnapshot

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def event(status: JobStatus, key: str = "a", task_id: str | None = "task_1", error: str = "") -> JobEvent:
    """Return an event."""
    return JobEvent(timestamp=0.0, key=key, task_id=task_id, status=status, progress=45.0, error=error)


def snapshot_of(**changes: Any) -> RunSnapshot:
    """Return a snapshot of a run."""
    facts: dict[str, Any] = {
        "total": 1000,
        "completed": 310,
        "failed": 2,
        "running": 40,
        "downloading": 8,
        "cost": 193.05,
        "elapsed": 312.0,
    }
    return RunSnapshot(**(facts | changes))


def drawn(snapshot: RunSnapshot, width: int, encoding: str = "utf-8") -> list[str]:
    """Return the lines of the live block on a screen of this width."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=screen, width=width, force_terminal=True, no_color=True, legacy_windows=False)
    console.print(LiveBlock(snapshot))
    screen.flush()
    return CONTROL.sub("", screen.buffer.getvalue().decode(encoding)).splitlines()


@settings(deadline=None)
@given(
    width=st.integers(40, 200),
    completed=st.integers(0, 10**6),
    seconds_left=st.none() | st.floats(0, 1e6),
    key=st.text(min_size=1, max_size=120),
    error=st.text(max_size=300),
)
def test_the_block_fits_every_width(
    width: int, completed: int, seconds_left: float | None, key: str, error: str
) -> None:
    """From 40 columns up no line is too wide, whatever keys and errors contain; the last line leaves two columns."""
    key, error = (text.encode("utf-8", "replace").decode() for text in (key, error))
    last = event(JobStatus.FAILED, key=key, error=error)
    snapshot = snapshot_of(
        total=10**6,
        completed=completed,
        seconds_left=seconds_left,
        learned_submits_per_minute=60.0,
        last_event=last,
    )
    lines = drawn(snapshot, width)
    assert 3 <= len(lines) <= 7
    assert all(cell_len(line) <= width for line in lines)
    assert cell_len(lines[-1]) <= width - 2


def test_the_block_shows_everything_that_is_known() -> None:
    """Jobs finished, running and waiting, cost, learned limits, elapsed and remaining time, and the last event."""
    snapshot = snapshot_of(
        seconds_left=660.0,
        projected_cost=620.4,
        learned_submits_per_minute=60.4,
        learned_max_in_flight=48,
        learned_max_downloads=4,
        last_event=event(JobStatus.RUNNING),
    )
    first, second, last = drawn(snapshot, 170)
    assert first.endswith("312/1,000 31%")
    assert second == (
        "40 running · 640 waiting · 8 downloading · 2 failed · $193.05 of about $620 · max 60/min · max 48 in flight"
        " · max 4 downloads · 5 min 12 s · about 11 min left"
    )
    assert last == "a running 45%"


def test_a_long_key_does_not_hide_what_happened() -> None:
    """On a narrow screen the key is truncated and its status stays visible, even before a long error."""
    key = "a-very-long-key-" * 8
    assert drawn(snapshot_of(last_event=event(JobStatus.RUNNING, key=key)), 40)[-1] == f"{key[:25]}… running 45%"
    assert drawn(snapshot_of(last_event=event(JobStatus.FAILED, key=key, error="no " * 40)), 40)[-1].startswith(
        f"{key[:11]}… failed: no no"
    )


def test_zeros_are_left_out() -> None:
    """At the start there is no cost, no failure and no estimate yet, and the display says so."""
    start = snapshot_of(completed=0, failed=0, downloading=0, running=0, cost=0.0, elapsed=0.0)
    assert plain_line(start) == "0 of 1,000 done, 0 running, 1,000 waiting, 0 s, estimating time left"
    assert plain_line(snapshot_of(completed=998)).endswith("2 failed, $193.05, 5 min 12 s")
    assert "submissions stopped" in plain_line(snapshot_of(is_stopped=True))


@pytest.mark.parametrize("running", [0, 3])
def test_no_time_is_left_once_submissions_stopped_and_nothing_runs(running: int) -> None:
    """Waiting jobs are not sent any more; tasks that the server has accepted still take their time."""
    line = plain_line(snapshot_of(is_stopped=True, running=running, downloading=0, seconds_left=5.0))
    assert line.endswith(", about 5 s left" if running else ", 5 min 12 s")


async def test_the_progress_without_a_terminal_has_no_closing_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary that follows says nearly the same."""
    output = Output(OutputOptions())
    monkeypatch.setattr(output, "note", (lines := list[str]()).append)
    async with show_progress(output, snapshot_of):
        await asyncio.sleep(0.01)
    assert lines == []


def test_an_ascii_screen_gets_ascii() -> None:
    """If the encoding lacks lines and dots, ASCII characters replace them."""
    lines = drawn(snapshot_of(last_event=event(JobStatus.RUNNING, key="b" * 90)), 60, encoding="ascii")
    assert all(line.isascii() for line in lines)


def test_the_forecast_includes_jobs_not_submitted_yet() -> None:
    """The forecast is requested at most once a second, with the number of jobs the client has not received yet."""
    now = 1000.0
    progress = RunProgress(clock=lambda: now)
    totals = RunTotals(1000, completed_before=frozenset(map(str, range(100))))
    requested: list[int] = []

    def forecast(upcoming: int) -> Forecast:
        requested.append(upcoming)
        return Forecast(seconds_left=60.0 * len(requested), cost=500.0)

    statistics = Statistics(waiting=300, in_flight=40, downloading=1, completed=150, failed=5, unresolved=4)
    totals.already_complete = 100
    seen = []
    for tick in range(12):
        now = 1000.0 + tick / 4
        snapshot = progress.snapshot(totals, statistics, forecast)
        seen.append((snapshot.seconds_left, snapshot.projected_cost))
    assert requested == [500] * 3
    assert seen == [(60.0, 500.0)] * 4 + [(120.0, 500.0)] * 4 + [(180.0, 500.0)] * 4


def test_the_last_line_shows_the_last_relevant_event() -> None:
    """A status, a percentage, the share of a slow download, or the error of a request; nothing else."""
    reported: list[JobEvent] = []
    observer = RunObserver(reported.append)

    def line() -> str:
        return drawn(snapshot_of(last_event=observer.last_event), 100)[-1]

    start = event(JobStatus.RUNNING)
    observer.on_event(start)
    for kind in (EventKind.SUBMIT, EventKind.CHECK, EventKind.DOWNLOAD):
        observer.on_event(replace(start, kind=kind, seconds=0.1))
    assert (line(), reported) == ("a running 45%", [start])
    observer.on_event(replace(start, kind=EventKind.CHECK, error="check: HTTP 502", seconds=0.1))
    assert line() == "a running 45%: check: HTTP 502"
    slow = replace(
        start,
        status=JobStatus.DOWNLOADING,
        kind=EventKind.DOWNLOAD_PROGRESS,
        bytes_received=3_000_000,
        bytes_total=10_000_000,
    )
    observer.on_event(slow)
    assert line() == "a downloading 30%"
    observer.on_event(replace(slow, bytes_received=10_000_000))
    assert line() == "a downloading 30%"
    assert len(reported) == 2


def test_accepted_jobs_are_those_that_are_not_charged_again() -> None:
    """A job counts as accepted until its clip is on disk or it failed; also if it timed out or was not downloaded.

    A job is ambiguous while it is sent and has no response.
    """
    observer = RunObserver()
    for key, status in {
        "a": JobStatus.RUNNING,
        "b": JobStatus.TIMED_OUT,
        "c": JobStatus.DOWNLOAD_FAILED,
        "d": JobStatus.COMPLETED,
        "e": JobStatus.FAILED,
        "f": JobStatus.CANCELLED,
    }.items():
        observer.on_event(event(JobStatus.RUNNING, key=key, task_id=f"task_{key}"))
        observer.on_event(event(status, key=key, task_id=f"task_{key}"))
    for key, status in {"g": JobStatus.WAITING, "h": JobStatus.SUBMITTING}.items():
        observer.on_event(event(JobStatus.SUBMITTING, key=key, task_id=None))
        observer.on_event(event(status, key=key, task_id=None))
    assert observer.ambiguous == {"h"}
    assert observer.accepted == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0.2, "0 s", "about 5 s"),
        (41, "41 s", "about 40 s"),
        (59.6, "1 min 00 s", "about 1 min"),
        (192, "3 min 12 s", "about 3 min"),
        (3599.7, "1 h 00 min", "about 60 min"),
        (7500, "2 h 05 min", "about 2 h"),
        (400_000, "111 h 06 min", "about 111 h"),
    ],
)
def test_durations_are_easy_to_read(seconds: float, exact: str, rough: str) -> None:
    """A duration has the two units that matter, an estimate one."""
    assert (format_duration(seconds), format_estimated_duration(seconds)) == (exact, rough)
