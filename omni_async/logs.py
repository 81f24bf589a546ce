"""`get_logger`: the loggers of the library, whose records hold one line each."""

from __future__ import annotations

import logging

from .plain_text import one_line

_FORMATTER = logging.Formatter()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. What it logs may quote a server or a file, and is made harmless first."""
    logger = logging.getLogger(name)
    logger.addFilter(_make_harmless)
    return logger


def _make_harmless(record: logging.LogRecord) -> bool:
    """Replace the arguments that would not print as one line. The message itself is ours."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(_harmless, record.args))
    if record.exc_info and not record.exc_text:
        # A traceback has lines of its own. They are kept, but a line of the exception's text cannot look like ours.
        lines = _FORMATTER.formatException(record.exc_info).split("\n")
        record.exc_text = "\n".join(f"  {one_line(line)}" for line in lines)
    return True


def _harmless(value: object) -> object:
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    shown = one_line(text)
    return value if shown == text else shown
