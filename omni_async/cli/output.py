"""What a command prints: results on stdout, everything else on stderr, without tearing the live display."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from io import StringIO
from textwrap import indent
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from omni_async import EventKind, UnknownModelWarning

from ..formatting import format_status
from ..plain_text import one_line
from ..progress.streams import LenientStream, is_terminal
from .streams import drop_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from omni_async import JobEvent

    from .options import OutputOptions


# Columns of a page that is drawn for a pipe or a file. No table is that wide, so no line is wrapped or cut.
_UNLIMITED_WIDTH = 4000


class Output:
    """The two output streams of one command.

    Each text is printed as one line and made harmless, on a terminal, in a pipe and in a file: what it quotes, the path
    of a clip included, may come from elsewhere. --json prints the data itself, escaped as JSON.
    """

    def __init__(self, options: OutputOptions) -> None:
        self.options = options
        self.is_live: bool = is_terminal(sys.stdout) and not (options.json or options.quiet)
        terminal = sys.stderr if is_terminal(sys.stderr) else sys.stdout
        self.terminal: Console = self._console(cast("TextIO", LenientStream(terminal)))
        self._has_live_display = False
        self.stdout_error: str = ""  # why stdout no longer accepts results; "" while it does

    def result(self, *lines: str) -> None:
        """Print lines of a result on stdout. If that fails, `stdout_error` says why from then on."""
        try:
            self._write(sys.stdout, *lines)
        except (OSError, ValueError) as error:
            self._lose_stdout(error)

    def json_line(self, content: dict[str, Any]) -> None:
        """Print a result as one line of JSON, in ASCII."""
        self.result(json.dumps(content, default=str, allow_nan=False))

    def render(self, content: RenderableType) -> None:
        """Print a rich renderable on stdout; unless that is a terminal, its lines are not wrapped.

        What it quotes must have been made harmless: the terminal's own styles are escape sequences as well.
        """
        if is_terminal(sys.stdout):
            try:
                self._console(sys.stdout).print(content)
            except (OSError, ValueError) as error:
                self._lose_stdout(error)
            return
        page = Console(file=StringIO(), width=_UNLIMITED_WIDTH, color_system=None, highlight=False, emoji=False)
        with page.capture() as rendered:
            page.print(content)
        self.result(*(line.rstrip() for line in rendered.get().removesuffix("\n").split("\n")))

    def note(self, text: str) -> None:
        """Print information on stderr, unless --quiet is given."""
        if not self.options.quiet:
            self._write_stderr(text)

    def error(self, text: str) -> None:
        """Print what went wrong on stderr, also with --quiet."""
        self._write_stderr(text, style="red")

    @contextmanager
    def above_live_display(self) -> Iterator[None]:
        """Print everything above the live display for as long as this block lasts."""
        self._has_live_display = True
        try:
            yield
        finally:
            self._has_live_display = False

    @contextmanager
    def show_log(self) -> Iterator[None]:
        """Print the library's log on stderr: warnings, and with --verbose every step."""
        handler = _LogHandler(self)
        handler.setFormatter(_LogFormatter("%(levelname)s %(name)s: %(message)s"))
        if not self.options.verbose:
            handler.addFilter(_is_not_in_summary)
        root, library = logging.getLogger(), logging.getLogger("omni_async")
        level = library.level
        root.addHandler(handler)
        logging.captureWarnings(capture=True)
        warnings.showwarning = partial(self._show_warning, warnings.showwarning)
        library.setLevel(logging.DEBUG if self.options.verbose else logging.WARNING)
        try:
            yield
        finally:
            logging.captureWarnings(capture=False)
            root.removeHandler(handler)
            library.setLevel(level)

    def event(self, event: JobEvent) -> None:
        """Print one step of a job on stderr."""
        step = format_status(event.status if event.kind in {EventKind.STATUS, EventKind.PROGRESS} else event.kind)
        facts = [step, event.task_id, f"{event.progress:.0f}%" if event.progress else "", event.error]
        self._write_stderr(f"{event.key}: {', '.join(filter(None, facts))}", style="dim")

    def log(self, *lines: str, is_warning: bool) -> None:
        """Print lines of the log on stderr."""
        self._write_stderr(*lines, style="yellow" if is_warning else "dim")

    def _show_warning(self, log: Callable[..., None], message: Warning | str, *where: Any, **more: Any) -> None:
        """Print the warnings meant for users in one line, and log the others, which only programmers understand."""
        if isinstance(message, UnknownModelWarning):
            self._write_stderr(f"warning: {message}", style="yellow")
        else:
            log(message, *where, **more)

    def _lose_stdout(self, error: OSError | ValueError) -> None:
        drop_output(sys.stdout)
        if not self.stdout_error:
            self.stdout_error = f"stdout: {getattr(error, 'strerror', None) or error}"
            if not isinstance(error, BrokenPipeError):  # then its reader has had enough (`| head`)
                self.error(f"{self.stdout_error}; no more results are printed")

    def _write_stderr(self, *lines: str, style: str = "") -> None:
        with suppress(OSError, ValueError):  # a closed stderr is no reason to end the run
            self._write(sys.stderr, *lines, style=style)

    def _write(self, stream: TextIO, *lines: str, style: str = "") -> None:
        text = "\n".join(map(one_line, lines))
        if is_terminal(stream):
            console = self.terminal if self._has_live_display else self._console(stream)
            console.print(Text(text, style=style), soft_wrap=True)
        else:
            print(text, file=stream, flush=True)

    def _console(self, stream: TextIO) -> Console:
        return Console(file=stream, no_color=self.options.no_color or None, highlight=False, emoji=False)


def _is_not_in_summary(record: logging.LogRecord) -> bool:
    """Return False for the reason why submissions stopped: the display says that they did, and the summary why."""
    return not (record.name.startswith("omni_async.submission.") and record.msg.startswith("submissions stopped"))


class _LogFormatter(logging.Formatter):
    """Formats a record, also of another library, as one line, and its traceback as indented lines below."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in `logging`
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in `logging`
        return indent(super().formatException(ei), "  ")


class _LogHandler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.log(*self.format(record).split("\n"), is_warning=record.levelno >= logging.WARNING)
        except Exception:  # noqa: BLE001 - a log line must never end a run
            self.handleError(record)
