"""`ProgressDisplay`: what it shows and when, on virtual time; and where it shows it, with real terminals."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from omni_async import JobEvent, JobStatus
from omni_async.progress import ProgressDisplay
from omni_async.progress.html import html_of
from omni_async.progress.snapshot import RunSnapshot
from tests.support.fakes import FakeClient, Server, left_by_error, refusal


class FakeView:
    """A view that keeps what it is told to show."""

    interval = 0.5

    def __init__(self) -> None:
        self.shown: list[RunSnapshot] = []
        self.finished: list[RunSnapshot] = []
        self.cell = 1

    def place(self) -> object:
        """Return the number of the cell."""
        return self.cell

    def show(self, snapshot: RunSnapshot) -> None:
        """Keep a snapshot."""
        self.shown.append(snapshot)

    def finish(self, snapshot: RunSnapshot) -> None:
        """Keep the last snapshot."""
        self.finished.append(snapshot)


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> FakeView:
    """Make displays that show everything here."""
    made = FakeView()
    monkeypatch.setattr("omni_async.progress.display._choose_view", lambda: made)
    return made


async def test_it_shows_a_run_from_start_to_end(tmp_path: Path, view: FakeView) -> None:
    """Counts, cost, rate and time left come and change; at the end all jobs are done and no time is left."""
    server = Server(duration=60, cost=0.5, capacity=5)
    async with FakeClient(server, tmp_path, on_event=ProgressDisplay()) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(20)))
    assert len(view.shown) > 100
    middle = next(snapshot for snapshot in view.shown if snapshot.completed >= 10)
    assert middle.total == 20
    assert middle.cost == pytest.approx(0.5 * middle.completed, abs=2.5)
    assert middle.running > 0
    assert middle.seconds_left is not None
    assert 60 < middle.seconds_left < 200
    assert middle.per_minute == pytest.approx(60 * middle.completed / middle.elapsed)
    assert middle.projected_cost == pytest.approx(10, rel=0.3)
    (last,) = view.finished
    assert (last.completed, last.running, last.waiting) == (20, 0, 0)
    assert last.cost == pytest.approx(10)
    assert last.is_ended


async def test_a_break_between_jobs_ends_a_run(tmp_path: Path, view: FakeView) -> None:
    """Jobs that follow each other are one run; after a break, as between two cells of a notebook, a new one begins."""
    async with FakeClient(Server(cost=0.5), tmp_path, on_event=ProgressDisplay()) as client:
        for number in range(3):
            await client.submit(f"p{number}")
            await asyncio.sleep(0.3)
        await asyncio.sleep(10)
        assert [snapshot.completed for snapshot in view.finished] == [3]
        await client.submit("q")
        await asyncio.sleep(10)
        assert [(each.completed, each.total, each.cost) for each in view.finished] == [(3, 3, 1.5), (1, 1, 0.5)]
        shown = len(view.shown)
        await asyncio.sleep(100)
        assert len(view.shown) == shown
    assert len(view.finished) == 2


async def test_jobs_of_another_cell_are_shown_there(tmp_path: Path, view: FakeView) -> None:
    """At once, without a break. Unfinished jobs of the cell before are counted with them, finished ones are not."""
    async with FakeClient(Server(duration=20), tmp_path, on_event=ProgressDisplay()) as client:
        await client.submit("p")
        view.cell = 2
        second = client.submit("q")
        await asyncio.sleep(5)
        assert [(each.completed, each.total) for each in view.finished] == [(1, 1)]
        view.cell = 3
        await asyncio.gather(second, client.submit("r"))
    assert [(each.completed, each.total) for each in view.finished] == [(1, 1), (0, 1), (2, 2)]


async def test_jobs_that_are_expected_count(tmp_path: Path, view: FakeView) -> None:
    """With `total`, the bar and the time left include jobs that are not submitted yet, and a break ends nothing."""
    async with FakeClient(Server(duration=30), tmp_path, on_event=ProgressDisplay(total=100)) as client:
        await client.submit("p")
        await asyncio.sleep(10)
        assert not view.finished
        assert (view.shown[-1].total, view.shown[-1].waiting) == (100, 99)
    assert [(each.completed, each.total) for each in view.finished] == [(1, 100)]


@pytest.mark.parametrize("how", ["error", "aclose", "stop"])
async def test_the_end_of_a_client_is_the_end_of_the_display(tmp_path: Path, view: FakeView, how: str) -> None:
    """It is left as it is, with what is unfinished, and without a time."""
    server = Server(duration=500)
    if how == "stop":
        server.on_submit = lambda post: refusal(401)
    client = FakeClient(server, tmp_path, on_event=ProgressDisplay())
    if how == "error":
        async with left_by_error(client):
            client.submit("p")
            await asyncio.sleep(5)
    else:
        await client.open()
        client.submit("p")
        await asyncio.sleep(0.9)
        await client.aclose()
    (last,) = view.finished
    assert (last.completed, last.total, last.is_ended) == (0, 1, True)
    assert last.is_stopped is (how == "stop")
    await asyncio.sleep(5)
    assert len(view.finished) == 1


async def test_it_shows_events_without_their_client(tmp_path: Path, view: FakeView) -> None:
    """Called by another listener, it does not know the client: no forecast, but all else, and the end of the run."""
    display, seen = ProgressDisplay(), list[JobEvent]()

    def both(event: JobEvent) -> None:
        seen.append(event)
        display(event)

    async with FakeClient(Server(duration=60, cost=0.5), tmp_path, on_event=both) as client:
        await client.submit("p")
        await asyncio.sleep(5)
    assert seen
    assert [(each.completed, each.cost) for each in view.finished] == [(1, 0.5)]
    assert all(snapshot.seconds_left is None for snapshot in view.shown)


async def test_a_listener_gets_the_events_too(tmp_path: Path, view: FakeView) -> None:
    """`ProgressDisplay(on_event=...)` passes each event on."""
    seen: list[JobEvent] = []
    async with FakeClient(Server(), tmp_path, on_event=ProgressDisplay(on_event=seen.append)) as client:
        await client.submit("p")
    assert seen[-1].status is JobStatus.COMPLETED
    assert view.finished


async def test_a_broken_display_affects_no_job(
    tmp_path: Path, view: FakeView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and the clips come."""

    def fail(snapshot: RunSnapshot) -> None:
        raise OSError("the screen has gone")

    monkeypatch.setattr(view, "show", fail)
    caplog.set_level(logging.ERROR)
    async with FakeClient(Server(duration=30), tmp_path, on_event=ProgressDisplay()) as client:
        assert (await client.submit("p")).is_file()
    assert [record.message for record in caplog.records] == ["the progress can no longer be shown; the jobs continue"]


def test_html_shows_foreign_text_as_text() -> None:
    """Keys and errors of others are no tags, and no characters that change the direction of the text."""
    bad = "<script>alert(1)</script>\u202e"
    event = JobEvent(timestamp=0.0, key=bad, task_id=None, status=JobStatus.FAILED, error=bad)
    facts: dict[str, Any] = {"total": 4, "completed": 1, "failed": 1, "running": 1, "downloading": 0}
    html = html_of(RunSnapshot(**facts, cost=0.0, elapsed=5.0, last_event=event))
    assert "<script" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;" in html
    assert '<progress max="4" value="2"' in html
    assert "<b>2/4</b> 50%" in html


# Where it is shown


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


async def test_without_a_terminal_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe, with TERM=dumb or without a stderr, nothing is printed."""
    for stderr, term in [(io.StringIO(), "xterm"), (Terminal(), "dumb"), (None, "xterm")]:
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr(sys, "stderr", stderr)
        async with FakeClient(Server(), tmp_path, on_event=ProgressDisplay()) as client:
            await client.submit("p")
        assert not stderr or not stderr.getvalue()
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("is_stdout_terminal", [True, False])
async def test_what_a_program_prints_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stdout_terminal: bool
) -> None:
    """On a terminal it appears above the block; what goes to a file goes there. The cursor is visible in the end."""
    stderr = Terminal()
    stdout = Terminal() if is_stdout_terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "stdout", stdout)
    async with FakeClient(Server(duration=30), tmp_path, on_event=ProgressDisplay()) as client:
        job = client.submit("p", key="fox")
        await asyncio.sleep(10)
        print("a line of the program")  # noqa: T201 - that is the point
        await job
    assert sys.stdout is stdout
    assert ("a line of the program\n" in stdout.getvalue()) is not is_stdout_terminal
    drawn = stderr.getvalue()
    assert ("a line of the program" in drawn) is is_stdout_terminal
    assert "1/1" in drawn
    assert drawn.rstrip().endswith("\x1b[?25h")
    assert drawn.count("\x1b[?25l") == 1


async def test_what_a_program_logs_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that was made before writes above the block, which does not erase it, and afterwards as before."""
    stderr, file = Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stderr)
    handlers: list[logging.StreamHandler[Any]] = [logging.StreamHandler(), logging.StreamHandler(file)]
    logger = logging.getLogger("a program")
    monkeypatch.setattr(logger, "handlers", handlers)
    async with FakeClient(Server(duration=30), tmp_path, on_event=ProgressDisplay()) as client:
        job = client.submit("p", key="fox")
        await asyncio.sleep(10)
        drawn = stderr.getvalue()
        logger.warning("a line of the log")
        await job
    # It begins where the block was, after that was erased; the block follows below.
    assert re.match(r"(\r|\x1b\[2K|\x1b\[1A)+a line of the log\r?\n", stderr.getvalue().removeprefix(drawn))
    assert [handler.stream for handler in handlers] == [stderr, file]
    logger.warning("another line")
    assert stderr.getvalue().endswith("\x1b[?25hanother line\n")
    assert file.getvalue() == "a line of the log\nanother line\n"


def test_a_terminal_without_rich_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("omni_async.progress.display.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"omni-async\[cli\]"):
        ProgressDisplay()
