"""`OpenFiles`: notices that the files of an open ledger are no longer those at its path. Used by `SqliteJobStore`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

# SQLite keeps the files open. If one is removed, moved or replaced, SQLite continues to write to the old file, without
# an error. What it records there is lost with the process, and the next run submits those jobs again.
_SUFFIXES = ("", "-wal", "-shm")


class OpenFiles:
    """The identity of the database at `path` and of its companions, as far as they exist already."""

    def __init__(self, path: Path) -> None:
        self._paths = [f"{path}{suffix}" for suffix in _SUFFIXES]
        self._identities: dict[str, tuple[int, int]] = {}  # by path

    def check(self) -> None:
        """Raise `LedgerError` if a file that was there before is not at its path now."""
        for path in self._paths:
            identity = _identity(path)
            if identity is not None and path not in self._identities:
                self._identities[path] = identity  # SQLite makes the companions when it first needs them
            elif identity != self._identities.get(path):
                raise LedgerError(
                    f"{path} was removed, moved or replaced while the ledger was open. Nothing more is "
                    "submitted, because it could not be recorded. Put the file back and run the same command again. A "
                    "job that was accepted since then is not in the ledger: its task_id is in the log and the summary",
                    permanent=True,
                )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - of a text: after each commit, and a `Path` would cost more than the call
    except OSError:
        return None
    return status.st_dev, status.st_ino
