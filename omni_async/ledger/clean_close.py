"""The note that a ledger was closed properly: the next process may open it without checking its whole content.

The note says which file it was (inode), how large, and when it was changed last. A copy, a restored backup, or a file
that another program has written to does not match the note, and is checked. Used by `SqliteJobStore`, kept in the lock
file.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from pathlib import Path

_CLOSED = "closed in good order"
# Seconds. Two changes within one tick of the file system's clock have the same time; Linux ticks every 1 to 10 ms.
_TICK = 0.012
_SECOND = 1_000_000_000  # in ns


def clean_close_note(path: Path) -> str:
    """Return the note about a ledger that was closed just now; "" if a later change could not be noticed."""
    try:
        status = path.stat()
    except OSError:
        return ""
    if _has_log(path) or not status.st_ino or not status.st_mtime_ns % _SECOND:  # a file system without fine times
        return ""
    if (age := time.time() - status.st_mtime) < _TICK:  # what changes the file from now on gets a later time
        time.sleep(min(_TICK, _TICK - age))
    return _note(status)


def is_unchanged(path: Path, note: str) -> bool:
    """Return whether a ledger is as it was when it was closed with this note."""
    try:
        return bool(note) and not _has_log(path) and note == _note(path.stat())
    except OSError:
        return False


def _note(status: os.stat_result) -> str:
    times = f"{status.st_mtime_ns}/{status.st_ctime_ns}"  # the second cannot be set by a program
    return f"{_CLOSED}: inode {status.st_ino}, {status.st_size} bytes, {times}"


def _has_log(path: Path) -> bool:
    """Return whether there is a log whose content may be missing from the file."""
    return any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))
