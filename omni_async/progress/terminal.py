"""`TerminalView`: shows snapshots in the last lines of a terminal. It needs rich, which the extra `cli` installs."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.live import Live

from .block import LiveBlock
from .streams import LenientStream, is_terminal

if TYPE_CHECKING:
    from .snapshot import RunSnapshot


class TerminalView:
    """A block of lines on stderr that changes. What the program prints meanwhile appears above it."""

    interval = 0.25  # seconds between two redraws, as on the command line

    def __init__(self) -> None:
        self._live: Live | None = None

    def place(self) -> object:
        """Return the same always: there is one terminal."""
        return None

    def show(self, snapshot: RunSnapshot) -> None:
        """Draw a snapshot in place of the one before."""
        self._live = self._live or _started()
        self._live.update(LiveBlock(snapshot), refresh=True)

    def finish(self, snapshot: RunSnapshot) -> None:
        """Draw the last snapshot and leave it there."""
        self.show(snapshot)
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            atexit.unregister(live.stop)


def _started() -> Live:
    live = Live(
        console=Console(file=cast("TextIO", LenientStream(sys.stderr)), highlight=False, emoji=False),
        auto_refresh=False,  # it would redraw in another thread
        redirect_stdout=is_terminal(sys.stdout),  # what goes to a file stays there
    )
    live.start()
    atexit.register(live.stop)  # the cursor is hidden until then, and the program may end without closing its client
    return live
