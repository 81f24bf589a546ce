"""The progress of a run on the screen: a live block on a terminal, otherwise a line on stderr every 10 seconds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import anyio
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..plain_text import one_line
from .formatting import (
    format_duration,
    format_estimated_duration,
    format_estimated_usd,
    format_status,
    format_usd,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from .output import Output
    from .progress import RunSnapshot


# Seconds between two redraws. Twice as often shows nothing new, because events and forecasts are rarer; half as often
# makes the clock and the bar move in visible jumps. Chosen, not measured.
_REDRAW_INTERVAL = 0.25

# Seconds between two lines where there is no terminal: few enough for a log file, and a run never seems to hang for
# longer. Chosen, not measured.
_LINE_INTERVAL = 10.0

# Columns of the bar on a wide screen. A longer bar is no easier to read and moves away from its numbers.
_MAX_BAR_WIDTH = 50


@asynccontextmanager
async def show_progress(output: Output, snapshot: Callable[[], RunSnapshot]) -> AsyncIterator[None]:
    """Show the progress of the run for as long as this block lasts; `snapshot` is called for each redraw."""
    if output.options.quiet:
        yield
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_show, output, snapshot)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


async def _show(output: Output, snapshot: Callable[[], RunSnapshot]) -> None:
    try:
        await (_redraw_block if output.is_live else _print_lines)(output, snapshot)
    except Exception as error:  # noqa: BLE001 - a display must never end a run that costs money
        output.error(f"the progress cannot be shown any more, the run goes on: {type(error).__name__}: {error}")


async def _redraw_block(output: Output, snapshot: Callable[[], RunSnapshot]) -> None:
    live = Live(
        LiveBlock(snapshot()),
        console=output.terminal,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live, output.above_live_display():
        while True:
            live.update(LiveBlock(snapshot()), refresh=True)
            await anyio.sleep(_REDRAW_INTERVAL)


async def _print_lines(output: Output, snapshot: Callable[[], RunSnapshot]) -> None:
    while True:  # the summary of the run is its last line
        await anyio.sleep(_LINE_INTERVAL)
        output.note(plain_line(snapshot()))


def plain_line(snapshot: RunSnapshot) -> str:
    """Return the state of the run as one line of text."""
    facts = (text for text, _ in _facts(snapshot))
    return ", ".join([f"{snapshot.completed:,} of {snapshot.total:,} done", *facts])


class LiveBlock:
    """The state of the run in a few lines that fit any width from 40 columns up."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gap = Text(" | " if options.ascii_only else " · ", style="dim")
        facts = [Text(text, style=style) for text, style in _facts(self._snapshot)]
        lines: list[RenderableType] = [self._bar(options.max_width)]
        lines += _fill_lines(facts, gap, options.max_width)
        if self._snapshot.last_event is not None:
            lines.append(self._event_line(options))
        yield Group(*lines)

    def _bar(self, width: int) -> Table:
        finished, total = self._snapshot.finished, self._snapshot.total
        row = Table.grid(expand=False, padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True)
        numbers = f"{finished:,}/{total:,}"
        percent = f" {100 * finished // total}%" if total > 1 else ""
        bar = ProgressBar(
            total=max(1, total),
            completed=finished,
            width=min(_MAX_BAR_WIDTH, width - len(numbers + percent) - 1),
            complete_style="green",
            finished_style="green",
        )
        row.add_row(bar, Text.assemble((numbers, "bold"), percent))
        return row

    def _event_line(self, options: ConsoleOptions) -> Text:
        event = self._snapshot.last_event
        assert event is not None
        share = 100 * event.bytes_received / event.bytes_total if event.bytes_total else event.progress
        percent = f" {share:.0f}%" if event.status in {"running", "downloading"} and share else ""
        error = f": {event.error}" if event.error else ""
        overflow: Literal["crop", "ellipsis"] = "crop" if options.ascii_only else "ellipsis"
        width = options.max_width - len("^C")  # a terminal echoes Ctrl-C there, and must not wrap the line
        key = Text(one_line(event.key))
        news = Text(one_line(f" {format_status(event.status)}{percent}{error}"))
        key.truncate(max(width // 3, width - news.cell_len), overflow=overflow)  # a long key must not hide the news
        line = Text.assemble(key, news, style="dim", no_wrap=True)
        line.truncate(width, overflow=overflow)
        return line


def _facts(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    """Return what there is to show, each with its style. What is zero or unknown is left out."""
    facts = [
        (f"{snapshot.running:,} running", "cyan" if snapshot.running else "dim"),
        (f"{snapshot.waiting:,} waiting", "" if snapshot.waiting else "dim"),
    ]
    if snapshot.downloading:
        facts.append((f"{snapshot.downloading:,} downloading", "cyan"))
    if snapshot.failed:
        facts.append((f"{snapshot.failed:,} failed", "red"))
    if snapshot.is_stopped:
        facts.append(("submissions stopped", "red"))
    facts += _cost(snapshot)
    if rate := snapshot.learned_submits_per_minute:
        facts.append((f"max {rate:,.{0 if rate >= 10 else 1}f}/min", ""))
    if snapshot.learned_max_in_flight:
        facts.append((f"max {snapshot.learned_max_in_flight:,} in flight", ""))
    facts.append((format_duration(snapshot.elapsed), ""))
    # Once submissions have stopped, only tasks that the server has accepted take time.
    if snapshot.finished < snapshot.total and (snapshot.running or snapshot.downloading or not snapshot.is_stopped):
        facts.append(_time_left(snapshot))
    return facts


def _time_left(snapshot: RunSnapshot) -> tuple[str, str]:
    if snapshot.seconds_left is not None:
        return f"{format_estimated_duration(snapshot.seconds_left)} left", ""
    return "estimating time left", "dim"


def _cost(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    """Return the cost so far, and the estimated cost at the end if that is more."""
    if not snapshot.cost:
        return []
    cost, projected = format_usd(snapshot.cost), snapshot.projected_cost
    if projected is not None and projected > snapshot.cost and snapshot.finished < snapshot.total:
        cost += f" of {format_estimated_usd(projected)}"
    return [(cost, "green")]


def _fill_lines(pieces: Iterable[Text], gap: Text, width: int) -> list[Text]:
    """Arrange the pieces in as few lines as this width allows."""
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + gap.cell_len + piece.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], gap, piece)
        else:
            lines.append(piece)
    return lines
