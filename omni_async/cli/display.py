"""The progress of a run on the screen: a live block on a terminal, otherwise a line on stderr every 10 seconds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from rich.live import Live

from ..progress.block import LiveBlock
from ..progress.facts import plain_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ..progress.snapshot import RunSnapshot
    from .output import Output


# Seconds between two redraws. Twice as often shows nothing new, because events and forecasts are rarer; half as often
# makes the clock and the bar move in visible jumps. Chosen, not measured.
_REDRAW_INTERVAL = 0.25

# Seconds between two lines where there is no terminal: few enough for a log file, and a run never seems to hang for
# longer. Chosen, not measured.
_LINE_INTERVAL = 10.0


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
        output.error(f"the progress can no longer be shown, the run continues: {type(error).__name__}: {error}")


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
