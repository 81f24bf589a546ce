"""`ExceptionLog`: logs an exception with its traceback once, and afterwards how often it came again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .notices import Notices, cause_of

if TYPE_CHECKING:
    import logging


class ExceptionLog:
    """Logs exceptions to `log` at ERROR. `who` raised them, as the lines that count them say."""

    def __init__(self, log: logging.Logger, who: str) -> None:
        self._log = log
        self._who = who
        self._notices = Notices()

    def report(self, error: BaseException, message: str, *arguments: object) -> None:
        """Log an exception with this message if its type and place are new; else log its count at 10, 100..."""
        cause = cause_of(error)
        number = self._notices.count(cause)
        if number == 1:
            self._log.error(message, *arguments, exc_info=error)
        elif number:
            self._count(cause[0], number)

    def close(self) -> None:
        """Log how often the exceptions occurred that were repeated since."""
        for cause, number in self._notices.unsaid():
            assert isinstance(cause, tuple)
            self._count(cause[0], number)

    def _count(self, name: str, number: int) -> None:
        self._log.error("%s raised the same %s %d times so far", self._who, name, number)
