"""Who is told what: results on stdout, all else on stderr, and nothing of it tears a live display."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from omni_async import EventKind, UnknownModelWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from omni_async import JobEvent

    from .options import OutputOptions


# What a server or a file has put into a text must not steer the terminal.
_HARMLESS = {code: "?" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}

_NO_SCREEN = 4000  # columns


class Output:
    """The two streams of one command."""

    def __init__(self, style: OutputOptions) -> None:
        self.style = style
        self.is_live: bool = _is_screen(sys.stdout) and not (style.json or style.quiet)
        self.screen: Console = self._console(sys.stderr if _is_screen(sys.stderr) else sys.stdout)
        self._is_covered = False  # a live display is on the screen
        self.broken: str = ""  # why stdout takes no more results, once it does not

    def result(self, text: str) -> None:
        """Tell a result. Where stdout takes it no longer, `broken` says so from then on."""
        try:
            self._write(sys.stdout, text)
        except OSError as error:
            self.broken = self.broken or f"stdout: {error.strerror or error}"
            _hang_up()

    def record(self, content: dict[str, Any]) -> None:
        """Tell a result as one line of JSON, all of it in ASCII."""
        self.result(json.dumps(content, default=str, allow_nan=False))

    def show(self, what: RenderableType) -> None:
        """Tell a result that is drawn; where stdout is no screen, in lines as long as they need to be."""
        if _is_screen(sys.stdout):
            self._console(sys.stdout).print(what)
            return
        page = Console(file=StringIO(), width=_NO_SCREEN, color_system=None, highlight=False, emoji=False)
        with page.capture() as drawn:
            page.print(what)
        self.result("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def note(self, text: str) -> None:
        """Tell what is good to know; not with --quiet."""
        if not self.style.quiet:
            self._aside(text)

    def problem(self, text: str) -> None:
        """Tell what went wrong, always."""
        self._aside(text, style="red")

    @contextmanager
    def covered(self) -> Iterator[None]:
        """Keep what is told meanwhile above the live display on the screen."""
        self._is_covered = True
        try:
            yield
        finally:
            self._is_covered = False

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Show what the library logs: warnings, and with --verbose every step."""
        handler = _Handler(self)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root, ours = logging.getLogger(), logging.getLogger("omni_async")
        level = ours.level
        root.addHandler(handler)
        logging.captureWarnings(capture=True)
        warnings.showwarning = partial(self._warn, warnings.showwarning)
        ours.setLevel(logging.DEBUG if self.style.verbose else logging.WARNING)
        try:
            yield
        finally:
            logging.captureWarnings(capture=False)
            root.removeHandler(handler)
            ours.setLevel(level)

    def _warn(self, otherwise: Callable[..., None], message: Warning | str, *where: Any, **more: Any) -> None:
        """Tell what a user should know in one line; what only programmers understand goes to the log."""
        if isinstance(message, UnknownModelWarning):
            self._aside(f"warning: {message}", style="yellow")
        else:
            otherwise(message, *where, **more)

    def event(self, event: JobEvent) -> None:
        """Tell a step of a job."""
        what = event.status if event.kind in {EventKind.STATUS, EventKind.PROGRESS} else event.kind
        facts = [what, event.task_id, f"{event.progress:.0f}%" if event.progress else "", event.error]
        self._aside(f"{event.key}: {', '.join(filter(None, facts))}", style="dim")

    def log(self, text: str, *, is_warning: bool) -> None:
        """Tell a line of the log."""
        self._aside(text, style="yellow" if is_warning else "dim")

    def _aside(self, text: str, style: str = "") -> None:
        with suppress(OSError):  # nobody listens: no reason to end the run
            self._write(sys.stderr, text, style)

    def _write(self, stream: TextIO, text: str, style: str = "") -> None:
        if _is_screen(stream):
            console = self.screen if self._is_covered else self._console(stream)
            console.print(Text(text.translate(_HARMLESS), style=style), soft_wrap=True)
        else:
            print(text, file=stream, flush=True)

    def _console(self, stream: TextIO) -> Console:
        return Console(file=stream, no_color=self.style.no_color or None, highlight=False, emoji=False)


def harmless(text: str) -> str:
    """Give a text as one line that cannot steer the terminal."""
    return " ".join(text.translate(_HARMLESS).split())


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.log(self.format(record), is_warning=record.levelno >= logging.WARNING)
        except Exception:  # noqa: BLE001 - a line of the log must never end a run
            self.handleError(record)


def speak_safely() -> None:
    """Let no character that a stream cannot encode end the run."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _hang_up() -> None:
    """Point stdout at nothing, so that the interpreter can flush it at its end although nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_screen(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"
