"""What a run shows while it goes on: any width, any encoding, a real terminal, and a plain line elsewhere."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from omni_async import EventKind, Forecast, JobEvent, JobStatus, Statistics
from omni_async.cli import formatting as words
from omni_async.cli.display import LiveBlock, plain_line
from omni_async.cli.progress import RunObserver, RunProgress, RunSnapshot
from omni_async.cli.results import RunTotals
from tests.support.shell import PATIENCE

if TYPE_CHECKING:
    from tests.support.shell import Shell

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def event(status: JobStatus, key: str = "a", task_id: str | None = "task_1", error: str = "") -> JobEvent:
    """Make an event."""
    return JobEvent(timestamp=0.0, key=key, task_id=task_id, status=status, progress=45.0, error=error)


def view(**changes: Any) -> RunSnapshot:
    """Make a moment of a run."""
    facts: dict[str, Any] = {
        "total": 1000,
        "done": 310,
        "failed": 2,
        "running": 40,
        "downloading": 8,
        "cost": 193.05,
        "elapsed": 312.0,
    }
    return RunSnapshot(**(facts | changes))


def drawn(moment: RunSnapshot, width: int, encoding: str = "utf-8") -> list[str]:
    """Draw a moment on a screen of this width."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=screen, width=width, force_terminal=True, no_color=True, legacy_windows=False)
    console.print(LiveBlock(moment))
    screen.flush()
    return CONTROL.sub("", screen.buffer.getvalue().decode(encoding)).splitlines()


@settings(deadline=None)
@given(
    width=st.integers(40, 200),
    done=st.integers(0, 10**6),
    left=st.none() | st.floats(0, 1e6),
    key=st.text(min_size=1, max_size=120),
    error=st.text(max_size=300),
)
def test_the_block_fits_every_width(width: int, done: int, left: float | None, key: str, error: str) -> None:
    """From 40 columns on nothing is wrapped or too wide, whatever keys and errors hold; the last line leaves room."""
    key, error = (text.encode("utf-8", "replace").decode() for text in (key, error))
    last = event(JobStatus.FAILED, key=key, error=error)
    lines = drawn(view(total=10**6, done=done, left=left, per_minute=60.0, last=last), width)
    assert 3 <= len(lines) <= 7
    assert all(cell_len(line) <= width for line in lines)
    assert cell_len(lines[-1]) <= width - 2


def test_the_block_tells_what_there_is_to_know() -> None:
    """How many of how many, what runs and waits, cost, rate, time gone and left, and the last event."""
    moment = view(left=660.0, projected=620.4, per_minute=60.4, at_once=48, last=event(JobStatus.RUNNING))
    first, second, last = drawn(moment, 140)
    assert first.endswith("312/1,000 31%")
    assert second == (
        "40 running · 640 waiting · 8 downloading · 2 failed · $193.05 of about $620 · 60/min · 48 at once · 5 min 12 s"
        " · about 11 min left"
    )
    assert last == "a running 45%"


def test_a_long_key_does_not_hide_what_has_happened() -> None:
    """On a narrow screen the key is cut short, and its news stand behind it; also where the error is long as well."""
    key = "a-very-long-key-" * 8
    assert drawn(view(last=event(JobStatus.RUNNING, key=key)), 40)[-1] == f"{key[:25]}… running 45%"
    assert drawn(view(last=event(JobStatus.FAILED, key=key, error="no " * 40)), 40)[-1].startswith(
        f"{key[:11]}… failed: no no"
    )


def test_what_is_nothing_is_not_said() -> None:
    """At the start there is no cost, no failure and no estimate to speak of: it says that it learns."""
    start = view(done=0, failed=0, downloading=0, running=0, cost=0.0, elapsed=0.0)
    assert plain_line(start) == "0 of 1,000 done, 0 running, 1,000 waiting, 0 s, learning the pace"
    assert plain_line(view(done=998)).endswith("2 failed, $193.05, 5 min 12 s")
    assert "line stopped" in plain_line(view(is_stopped=True))


def test_an_ascii_screen_gets_ascii() -> None:
    """Where the encoding knows no lines and dots, plain characters stand for them."""
    lines = drawn(view(last=event(JobStatus.RUNNING, key="b" * 90)), 60, encoding="ascii")
    assert all(line.isascii() for line in lines)


def test_what_is_expected_is_asked_with_what_is_still_to_come() -> None:
    """The client is asked at most once a second, and told how many jobs of the run it does not have yet."""
    now = 1000.0
    course, tally = RunProgress(clock=lambda: now), RunTotals(1000, made=frozenset(map(str, range(100))))
    asked: list[int] = []

    def foresee(upcoming: int) -> Forecast:
        asked.append(upcoming)
        return Forecast(seconds_left=60.0 * len(asked), cost=500.0)

    sums = Statistics(waiting=300, in_flight=40, downloading=1, completed=150, failed=5, unresolved=4)
    tally.there = 100  # of those done: from before
    seen = []
    for tick in range(12):
        now = 1000.0 + tick / 4
        moment = course.view(tally, sums, foresee)
        seen.append((moment.left, moment.projected))
    assert asked == [500] * 3
    assert seen == [(60.0, 500.0)] * 4 + [(120.0, 500.0)] * 4 + [(180.0, 500.0)] * 4


def test_the_last_line_tells_what_matters() -> None:
    """A change, a percentage, the share of a clip that comes slowly, and what went wrong with a request; no more."""
    heard: list[JobEvent] = []
    watch = RunObserver(heard.append)

    def line() -> str:
        return drawn(view(last=watch.last), 100)[-1]

    start = event(JobStatus.RUNNING)
    watch.hear(start)
    for kind in (EventKind.SUBMIT, EventKind.CHECK, EventKind.DOWNLOAD):
        watch.hear(replace(start, kind=kind, seconds=0.1))
    assert (line(), heard) == ("a running 45%", [start])
    watch.hear(replace(start, kind=EventKind.CHECK, error="check: HTTP 502", seconds=0.1))
    assert line() == "a running 45%: check: HTTP 502"
    slow = replace(
        start,
        status=JobStatus.DOWNLOADING,
        kind=EventKind.DOWNLOAD_PROGRESS,
        bytes_received=3_000_000,
        bytes_total=10_000_000,
    )
    watch.hear(slow)
    assert line() == "a downloading 30%"
    watch.hear(replace(slow, bytes_received=10_000_000))
    assert line() == "a downloading 30%"
    assert len(heard) == 2


def test_accepted_are_those_that_are_not_paid_again() -> None:
    """A job counts from its acceptance until its clip is on disk or it failed; also when it is late or stranded.

    A job is in doubt while it is sent and not answered.
    """
    watch = RunObserver()
    for key, status in {
        "a": JobStatus.RUNNING,
        "b": JobStatus.TIMED_OUT,
        "c": JobStatus.DOWNLOAD_FAILED,
        "d": JobStatus.COMPLETED,
        "e": JobStatus.FAILED,
        "f": JobStatus.CANCELLED,
    }.items():
        watch.hear(event(JobStatus.RUNNING, key=key, task_id=f"task_{key}"))
        watch.hear(event(status, key=key, task_id=f"task_{key}"))
    for key, status in {"g": JobStatus.WAITING, "h": JobStatus.SUBMITTING}.items():
        watch.hear(event(JobStatus.SUBMITTING, key=key, task_id=None))
        watch.hear(event(status, key=key, task_id=None))
    assert watch.in_doubt == {"h"}
    assert watch.accepted == {"a", "b", "c"}


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
def test_times_are_read_easily(seconds: float, exact: str, rough: str) -> None:
    """A time has the two units that matter, an estimate one."""
    assert (words.span(seconds), words.rough_span(seconds)) == (exact, rough)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("width", [40, 100])
async def test_a_terminal_shows_the_run_and_is_left_tidy(shell: Shell, width: int) -> None:
    """On a terminal the block is drawn, and taken away at the end: cursor shown, the sum left, warnings above."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(4)))
    status, shown = await on_terminal(shell, width, "batch", file)
    assert status == 0
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("0/4")
    assert "running" in shown
    end = CONTROL.sub("", shown[shown.rindex("\x1b[?25h") :])
    assert end.strip().startswith("4 of 4 clips in clips, $")
    assert "Traceback" not in shown


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
async def test_no_color_is_honoured(shell: Shell) -> None:
    """NO_COLOR and --no-color leave no color code on a terminal; without them there are some."""
    file = shell.write("p.txt", "a\n")
    colors = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38)[0-9;]*m")
    runs = [
        on_terminal(shell, 80, "batch", file, "-o", "a"),
        on_terminal(shell, 80, "batch", file, "-o", "b", "--no-color"),
        on_terminal(shell, 80, "batch", file, "-o", "c", NO_COLOR="1"),
        on_terminal(shell, 80, "batch", file, "-o", "d", "--quiet"),
    ]
    colored, plain, also_plain, quiet = [shown for _, shown in await asyncio.gather(*runs)]
    assert colors.search(colored)
    assert not colors.search(plain)
    assert not colors.search(also_plain)
    assert quiet == ""


async def on_terminal(shell: Shell, width: int, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of this width; give its status and all that it wrote there."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omni_async", *arguments),
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm-256color"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    reading = asyncio.create_task(asyncio.to_thread(read_all, ours))
    try:
        status = await asyncio.wait_for(process.wait(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
        shown = await reading
        os.close(ours)
    return status, shown.decode()


def read_all(terminal: int) -> bytes:
    """Read what is written to a terminal until nobody holds its other end."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux tells that the other end is closed
            piece = b""
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
