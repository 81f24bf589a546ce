"""`StoreFailures`: reports changes that could not be recorded: once for each cause, then a count, then the recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .notices import Notices

if TYPE_CHECKING:
    import logging

    from ..errors import LedgerError


class StoreFailures:
    """Logs failures of the store to `log` at CRITICAL, and the recovery at WARNING. Used by `JobRegistry`.

    A full disk fails every change of every job: a line for each would hide everything else.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._notices = Notices()

    def report(self, error: LedgerError) -> None:
        """Log a failure if its cause is new; else log its count at 10, 100..."""
        cause = str(error)
        number = self._notices.count(cause)
        if number == 1:
            self._log.critical("a change of a job could not be recorded: %s", cause)
        elif number:
            self._count(cause, number)

    def recover(self) -> None:
        """Note that a change was recorded. The store repeats the earlier ones with it."""
        if (failed := self._notices.clear()) > 0:
            text = "changes are recorded again, including %d that could not be recorded at first"
            self._log.warning(text, failed)

    def close(self) -> None:
        """Log how many changes failed since the last count."""
        for cause, number in self._notices.unsaid():
            self._count(str(cause), number)

    def _count(self, cause: str, number: int) -> None:
        self._log.critical("%d changes of jobs could not be recorded so far: %s", number, cause.partition(". ")[0])
