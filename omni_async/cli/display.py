"""How a run shows itself: a small live block on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import anyio
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from . import formatting as words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from .output import Output
    from .progress import RunSnapshot


_REDRAW = 0.25  # seconds
_LINE_EVERY = 10.0


@asynccontextmanager
async def shown(output: Output, look: Callable[[], RunSnapshot]) -> AsyncIterator[None]:
    """Show the run, as `look` sees it, for as long as this block lasts."""
    if output.style.quiet:
        yield
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_redraw if output.is_live else _tell, output, look)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


async def _redraw(output: Output, look: Callable[[], RunSnapshot]) -> None:
    live = Live(
        LiveBlock(look()),
        console=output.screen,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live, output.covered():
        while True:
            live.update(LiveBlock(look()), refresh=True)
            await anyio.sleep(_REDRAW)


async def _tell(output: Output, look: Callable[[], RunSnapshot]) -> None:
    try:
        while True:
            await anyio.sleep(_LINE_EVERY)
            output.note(plain_line(look()))
    finally:
        if look().elapsed >= _LINE_EVERY:
            output.note(plain_line(look()))


def plain_line(view: RunSnapshot) -> str:
    """Give the run as one line of text."""
    return ", ".join([f"{view.done:,} of {view.total:,} done", *(text for text, _ in _facts(view))])


class LiveBlock:
    """The run as a few lines that fit any width from 40 columns up."""

    def __init__(self, view: RunSnapshot) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gap = Text(" | " if options.ascii_only else " · ", style="dim")
        facts = [Text(text, style=style) for text, style in _facts(self._view)]
        lines: list[RenderableType] = [self._bar(options.max_width)]
        lines += _packed(facts, gap, options.max_width)
        if self._view.last is not None:
            lines.append(self._last_line(options))
        yield Group(*lines)

    def _bar(self, width: int) -> Table:
        view = self._view
        row = Table.grid(expand=False, padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True)
        numbers = f"{view.ended:,}/{view.total:,}"
        share = f" {100 * view.ended // view.total}%" if view.total > 1 else ""
        bar = ProgressBar(
            total=max(1, view.total),
            completed=view.ended,
            width=min(50, width - len(numbers + share) - 1),
            complete_style="green",
            finished_style="green",
        )
        row.add_row(bar, Text.assemble((numbers, "bold"), share))
        return row

    def _last_line(self, options: ConsoleOptions) -> Text:
        event = self._view.last
        assert event is not None
        share = 100 * event.bytes_received / event.bytes_total if event.bytes_total else event.progress
        percent = f" {share:.0f}%" if event.status in {"running", "downloading"} and share else ""
        told = f": {event.error}" if event.error else ""
        overflow: Literal["crop", "ellipsis"] = "crop" if options.ascii_only else "ellipsis"
        room = options.max_width - len("^C")
        name, news = (Text(part.translate(_ONE_LINE)) for part in (event.key, f" {event.status}{percent}{told}"))
        name.truncate(max(room // 3, room - news.cell_len), overflow=overflow)  # so that what has happened is seen
        line = Text.assemble(name, news, style="dim", no_wrap=True)
        line.truncate(room, overflow=overflow)
        return line


_ONE_LINE = dict.fromkeys((*range(32), *range(127, 160)), " ")


def _facts(view: RunSnapshot) -> list[tuple[str, str]]:
    """Give what there is to say, each with its style; what is nothing is not said."""
    facts = [
        (f"{view.running:,} running", "cyan" if view.running else "dim"),
        (f"{view.waiting:,} waiting", "" if view.waiting else "dim"),
    ]
    if view.downloading:
        facts.append((f"{view.downloading:,} downloading", "cyan"))
    if view.failed:
        facts.append((f"{view.failed:,} failed", "red"))
    if view.is_stopped:
        facts.append(("line stopped", "red"))
    facts += _money(view)
    if view.per_minute:
        facts.append((f"{view.per_minute:,.{0 if view.per_minute >= 10 else 1}f}/min", ""))
    if view.at_once:
        facts.append((f"{view.at_once:,} at once", ""))
    facts.append((words.span(view.elapsed), ""))
    if view.ended < view.total:
        facts.append(_time_left(view))
    return facts


def _time_left(view: RunSnapshot) -> tuple[str, str]:
    if view.left is not None:
        return f"{words.rough_span(view.left)} left", ""
    return "learning the pace", "dim"


def _money(view: RunSnapshot) -> list[tuple[str, str]]:
    """Give what was spent, and what it will have been in the end where that is more."""
    if not view.cost:
        return []
    is_more = view.projected is not None and view.projected > view.cost and view.ended < view.total
    expected = f" of {words.rough_money(view.projected)}" if is_more and view.projected is not None else ""
    return [(words.money(view.cost) + expected, "green")]


def _packed(pieces: Iterable[Text], gap: Text, width: int) -> list[Text]:
    """Put the pieces into as few lines as this width allows."""
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + gap.cell_len + piece.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], gap, piece)
        else:
            lines.append(piece)
    return lines
