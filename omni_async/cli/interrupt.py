"""Ctrl-C and SIGTERM: the first one asks the command to stop, the second one ends the process immediately."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

from .exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupts:
    """The interrupts received so far, and the callback that stops the running command."""

    def __init__(self) -> None:
        self.has_received: bool = False
        self._stop: Callable[[], object] | None = None

    def install(self) -> None:
        """Handle both signals; one that is ignored (as under nohup) stays ignored.

        Only the main thread may call this. A program that runs commands in another thread leaves signals alone.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    @contextmanager
    def call_first(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop`, in the signal handler, at the first interrupt in this block instead of exiting."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.has_received or self._stop is None:
            _exit_immediately()
        self.has_received = True
        self._stop()


def _exit_immediately() -> Never:
    # No flush and no cleanup: that may be exactly what hangs. The live display may have hidden the cursor.
    for stream in (sys.__stderr__, sys.__stdout__):
        if stream is not None and stream.isatty():
            os.write(stream.fileno(), _SHOW_CURSOR)
            break
    os._exit(ExitStatus.INTERRUPTED)


INTERRUPTS = Interrupts()  # signal handlers are per process, hence one instance
