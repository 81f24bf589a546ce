"""Ctrl-C and SIGTERM: the first one asks the run to stop, the second ends the process at once, whatever hangs."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


STATUS = 130
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupts:
    """What has come from the keyboard so far, and whom to ask to stop."""

    def __init__(self) -> None:
        self.happened: bool = False
        self._stop: Callable[[], object] | None = None

    def install(self) -> None:
        """Take over both signals; one that is ignored (as under nohup) stays ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    @contextmanager
    def asking(self, stop: Callable[[], object]) -> Iterator[None]:
        """Let the first interrupt call `stop` (in the signal handler) instead of ending everything."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.happened or self._stop is None:
            _end_now()
        self.happened = True
        self._stop()


def _end_now() -> Never:
    # No flush, no cleanup: whatever hangs may be just that. A display may have hidden the cursor.
    for stream in (sys.__stderr__, sys.__stdout__):
        if stream is not None and stream.isatty():
            os.write(stream.fileno(), _SHOW_CURSOR)
            break
    os._exit(STATUS)


INTERRUPTS = Interrupts()  # signals belong to the process, and so does this
