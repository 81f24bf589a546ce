"""`status --watch`: shows the ledger again and again, until no job in it is waiting or running."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread
from rich.console import Group
from rich.live import Live
from rich.text import Text

from .exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from .output import Output

# Seconds between two readings of the ledger. Twice as often shows little more: a clip takes
# minutes. Half as often makes the screen seem frozen. Chosen, not measured.
_INTERVAL = 1.0

# To read the sums of a million jobs takes half a second: no more than this share of a core is used for it.
_MAX_SHARE = 0.1


class View(Protocol):
    """What one reading of the ledger has found. Two views that are equal show the same."""

    def content(self) -> RenderableType:
        """Return what a terminal shows."""

    def report(self, previous: View | None) -> None:
        """Print what is new since the previous view, where there is no terminal."""

    @property
    def is_final(self) -> bool:
        """Whether no job is waiting or running."""


async def watch(output: Output, read: Callable[[], View]) -> ExitStatus:
    """Show what `read` returns, which runs in a thread, until it is final or stdout accepts no more."""
    live = None
    if output.is_live:
        live = Live(console=output.terminal, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    previous: View | None = None
    with live or nullcontext():
        while True:
            started = time.monotonic()
            view = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
            if live is not None:
                # Drawn again without a change too: the size of the terminal may have changed.
                footer = Text("" if view.is_final else "watching; Ctrl-C ends it", style="dim")
                live.update(Group(view.content(), footer), refresh=True)
            elif view != previous:
                view.report(previous)
            if output.stdout_error:
                return ExitStatus.STOPPED
            if view.is_final:
                return ExitStatus.DONE
            previous = view
            await anyio.sleep(max(_INTERVAL, (time.monotonic() - started) / _MAX_SHARE))
