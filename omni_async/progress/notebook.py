"""`NotebookView`: shows snapshots in the output of a cell. It needs IPython, which is there in a notebook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .facts import plain_line
from .html import html_of

if TYPE_CHECKING:
    from .snapshot import RunSnapshot


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. IPython in a terminal is not."""
    return getattr(_shell(), "kernel", None) is not None


def _shell() -> Any:
    """Return IPython's shell, None outside of IPython."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


class NotebookView:
    """One output that changes, in the cell that was running when it was shown first."""

    # Seconds between two changes. Each is a message to the browser, and the facts change every second.
    interval: float = 0.5

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = ""

    def place(self) -> object:
        """Return the number of the cell that is running, or of the next one."""
        return _shell().execution_count

    def show(self, snapshot: RunSnapshot) -> None:
        """Show a snapshot in place of the one before."""
        from IPython.display import display  # noqa: PLC0415 - no dependency: only a notebook has it

        html = html_of(snapshot)
        if html == self._shown:
            return
        self._shown = html
        bundle = {"text/html": html, "text/plain": plain_line(snapshot)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def finish(self, snapshot: RunSnapshot) -> None:
        """Show the last snapshot. What is shown later goes to another output."""
        self.show(snapshot)
        self._handle, self._shown = None, ""
