"""`LiveBlock`: the state of a run as a few lines of a terminal. It needs rich, which the extra `cli` installs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .facts import event_news, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from .snapshot import RunSnapshot


# Columns of the bar on a wide screen. A longer bar is no easier to read and moves away from its numbers.
_MAX_BAR_WIDTH = 50


class LiveBlock:
    """The state of the run in a few lines that fit any width from 40 columns up."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gap = Text(" | " if options.ascii_only else " · ", style="dim")
        facts = [Text(text, style=style) for text, style in facts_of(self._snapshot)]
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
        overflow: Literal["crop", "ellipsis"] = "crop" if options.ascii_only else "ellipsis"
        width = options.max_width - len("^C")  # a terminal echoes Ctrl-C there, and must not wrap the line
        key, news = map(Text, event_news(event))
        key.truncate(max(width // 3, width - news.cell_len - 1), overflow=overflow)  # it must not hide the news
        line = Text.assemble(key, " ", news, style="dim", no_wrap=True)
        line.truncate(width, overflow=overflow)
        return line


def _fill_lines(pieces: Iterable[Text], gap: Text, width: int) -> list[Text]:
    """Arrange the pieces in as few lines as this width allows."""
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + gap.cell_len + piece.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], gap, piece)
        else:
            lines.append(piece)
    return lines
