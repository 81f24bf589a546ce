"""`TerminalView`: shows snapshots in the last lines of a terminal. It needs rich, which the extra `cli` installs."""

from __future__ import annotations

import atexit
import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.live import Live

from .block import LiveBlock
from .streams import LenientStream, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .snapshot import RunSnapshot


class TerminalView:
    """A block of lines on stderr that changes. What the program prints or logs meanwhile appears above it."""

    interval: float = 0.25  # seconds between two redraws, as on the command line

    def __init__(self) -> None:
        self._drawing: _Drawing | None = None

    def place(self) -> object:
        """Return a constant: there is one terminal."""
        return None

    def show(self, snapshot: RunSnapshot) -> None:
        """Draw a snapshot in place of the one before."""
        self._drawing = self._drawing or _Drawing()
        self._drawing.live.update(LiveBlock(snapshot), refresh=True)

    def finish(self, snapshot: RunSnapshot) -> None:
        """Draw the last snapshot and leave it there."""
        self.show(snapshot)
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            drawing.stop()


class _Drawing:
    """The block while it is on the screen, with what is redirected meanwhile."""

    def __init__(self) -> None:
        before = {id(stream): name for name, stream in _streams()}
        self.live = Live(
            console=Console(file=cast("TextIO", LenientStream(sys.stderr)), highlight=False, emoji=False),
            auto_refresh=False,  # it would redraw in another thread
            redirect_stdout=is_terminal(sys.stdout),  # what goes to a file stays there
        )
        self.live.start()
        # A handler keeps the stream that it was made with. Its lines would tear the block, and be erased with it.
        self._handlers: list[tuple[logging.StreamHandler[Any], Any, Any]] = []
        for handler in _stream_handlers():
            if name := before.get(id(handler.stream)):
                replaced = getattr(sys, name)
                self._handlers.append((handler, handler.setStream(replaced), replaced))
        # The cursor is hidden until then, and the program may end without closing its client.
        atexit.register(self.stop)

    def stop(self) -> None:
        """Leave the block on the screen and restore what was redirected."""
        atexit.unregister(self.stop)
        self.live.stop()
        for handler, original, replaced in self._handlers:
            if original is not None and handler.stream is replaced:
                handler.setStream(original)


def _streams() -> Iterator[tuple[str, TextIO]]:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if is_terminal(stream):
            yield name, stream


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    """Yield the handlers of all loggers that write to a stream."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", ())}:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            yield handler
