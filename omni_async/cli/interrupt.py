"""Ctrl-C, SIGTERM and SIGHUP: the first one asks the command to stop, a second one ends the process immediately."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Never

from .exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


_SHOW_CURSOR = b"\x1b[?25h\n"
# A terminal that is closed sends its signal more than once, from the system and from the shell, and a system that shuts
# down sends it after SIGTERM: it never means "immediately". Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)


class Interrupts:
    """The interrupts received so far, and the callback that stops the running command."""

    def __init__(self) -> None:
        self._received: set[bool] = set()  # whether each of them was a hangup
        self._stop: Callable[[], object] | None = None

    def install(self) -> None:
        """Handle the signals; one that is ignored (as SIGHUP under nohup) stays ignored.

        Only the main thread may call this. A program that runs commands in another thread leaves signals alone.
        """
        for number in (signal.SIGINT, signal.SIGTERM, _HANGUP):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
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
        is_hangup = number == _HANGUP
        if self._stop is None or (False in self._received and not is_hangup):
            _exit_immediately()
        is_first = not self._received
        self._received.add(is_hangup)
        if is_first:
            self._stop()


def _exit_immediately() -> Never:
    # No flush and no cleanup: that may be exactly what hangs. The live display may have hidden the cursor.
    for stream in (sys.__stderr__, sys.__stdout__):
        with suppress(OSError, ValueError):  # the terminal may be gone
            if stream is not None and stream.isatty():
                os.write(stream.fileno(), _SHOW_CURSOR)
                break
    os._exit(ExitStatus.INTERRUPTED)


INTERRUPTS = Interrupts()  # signal handlers are per process, hence one instance
