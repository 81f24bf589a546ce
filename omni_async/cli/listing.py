"""Jobs one below the other: in columns where there is room for them, else each as a few lines of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from omni_async import JobStatus

from . import words
from .output import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from omni_async import JobRecord

STYLES = {
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.UNKNOWN: "bold red",
    JobStatus.UNDELIVERED: "yellow",
    JobStatus.OVERDUE: "yellow",
    JobStatus.SUBMITTING: "cyan",
    JobStatus.RUNNING: "cyan",
    JobStatus.DOWNLOADING: "cyan",
}

_HEAD = ("state", "key", "task_id", "tries", "cost", "clip")
_TO_THE_RIGHT = ("tries", "cost")
_GAP = 2
_INDENT = "  "


class Listing:
    """Some jobs, laid out for a width. What went wrong with one stands below it."""

    def __init__(self, records: Sequence[JobRecord], width: int) -> None:
        self._records = records
        self._width = width
        self._rows = [_cells(record) for record in records]
        self._columns = self._fitting()

    def lines(self, console: Console, room: int | None, *, least: int) -> tuple[list[Text], int]:
        """Give the lines, and how many jobs they tell of: all, or, of at least so many, those that have room."""
        lines = [self._in_columns([Text(name, style="bold") for name in _HEAD])] if self._columns else []
        for shown, (record, row) in enumerate(zip(self._records, self._rows, strict=True)):
            told = self._of(console, record, row)
            if room is not None and shown >= least and len(lines) + len(told) > room:
                return lines, shown
            lines += told
        return lines, len(self._records)

    def _fitting(self) -> tuple[int, ...]:
        """Give the widths of the columns; without the clips, which are named after the keys, if it must be; or none."""
        widths = [max(len(name), *(row[at].cell_len for row in self._rows)) for at, name in enumerate(_HEAD)]
        for columns in (widths, widths[:-1]):
            if sum(columns) + _GAP * (len(columns) - 1) <= self._width:
                return tuple(columns)
        return ()

    def _of(self, console: Console, record: JobRecord, row: Sequence[Text]) -> list[Text]:
        state, key, task, tries, cost, clip = row
        lines = []
        if self._columns:
            lines.append(self._in_columns(row))
        else:
            count = words.count(record.submits, "try", "tries") if tries.plain else ""
            facts = [task, Text(count, style=tries.style), cost]
            lines += Text.assemble(state, " ", key).wrap(console, self._width)
            lines += self._indented(console, Text(", ").join(fact for fact in facts if fact.plain))
        if len(self._columns) < len(_HEAD) and clip.plain not in {"", f"{key.plain}.mp4"}:
            lines += self._indented(console, clip)
        return lines + self._indented(console, Text(_error(record), style=STYLES.get(record.status, "")))

    def _in_columns(self, row: Sequence[Text]) -> Text:
        line = Text(no_wrap=True)
        for name, width, cell in zip(_HEAD, self._columns, row, strict=False):
            padded = cell.copy()
            padded.align("right" if name in _TO_THE_RIGHT else "left", width)
            line.append_text(padded).append(" " * _GAP)
        line.rstrip()
        return line

    def _indented(self, console: Console, text: Text) -> list[Text]:
        if not text.plain:
            return []
        return [Text.assemble(_INDENT, line) for line in text.wrap(console, max(20, self._width - len(_INDENT)))]


def _cells(record: JobRecord) -> tuple[Text, ...]:
    cost = words.money(record.paid) if record.cost is not None or record.earlier_cost else ""
    style = "yellow" if record.doubtful else ""
    return (
        Text(str(record.status), style=STYLES.get(record.status, "")),
        Text(harmless(record.key)),
        Text(harmless(record.task_id or ""), style="dim"),
        Text(f"{record.submits}{'?' if record.doubtful else ''}" if record.submits else "", style),
        Text(cost),
        Text(", ".join(harmless(Path(path).name) for path in record.paths)),
    )


def _error(record: JobRecord) -> str:
    """Give what went wrong without the name of the job, which stands above it."""
    text = record.error.removeprefix(f"job {record.key!r}")
    if record.task_id:
        text = text.removeprefix(f" (task {record.task_id})")
    return harmless(text.removeprefix(":"))
