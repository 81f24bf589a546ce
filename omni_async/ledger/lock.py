"""The lock that makes one process the owner of a ledger. Used by `SqliteJobStore`.

It is a lock of the operating system on a file beside the ledger. The system releases it when its process dies.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from ..errors import LedgerError, LedgerLocked
from ..files import open_regular

if TYPE_CHECKING:
    from pathlib import Path


# How systems say that another process holds the lock; EDEADLK is Windows' answer after its own retries.
_HELD_ELSEWHERE = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}

_LONGEST_NOTE = 200  # bytes

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the pid, so that other processes can still read it
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        """Do nothing: Windows does not fork, so closing the file is enough."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Lock:
    """The lock on one ledger, held from creation until `release`.

    The lock file is never removed. Otherwise a second process could create a new file and lock that one too. It holds
    the owner's pid while the lock is held, and then the note of the last owner, if it left one.
    """

    def __init__(self, ledger: Path) -> None:
        """Take the lock. Raise `LedgerLocked` if another process holds it, `LedgerError` if locking is impossible."""
        path = ledger.with_name(f"{ledger.name}.lock")
        self._descriptor: int | None = None
        try:
            descriptor = open_regular(path, mode=0o600)
        except OSError as error:
            text = f"the ledger {ledger} cannot be opened: {error.strerror} ({path}). Choose a folder that is writable"
            raise LedgerError(text, permanent=True) from error
        try:
            _lock(descriptor)
        except OSError as error:
            owner = _read_owner(descriptor)
            os.close(descriptor)
            is_held = error.errno in _HELD_ELSEWHERE
            raise _locked(ledger, owner) if is_held else _no_locking(ledger, error) from error
        self._descriptor = descriptor
        _held.add(self)
        self.note: str = _read(descriptor)  # of the owner before
        _write(descriptor, f"{os.getpid()}\n")

    def release(self, note: str = "") -> None:
        """Release the lock, and leave a note for the next owner."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if note:
                _write(descriptor, note)
            _unlock(descriptor)  # closing alone would leave the lock to a process that was forked meanwhile
            os.close(descriptor)

    def forget(self) -> None:
        """Close the file without unlocking it: the parent process still holds the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _forget_all() -> None:
    for lock in tuple(_held):
        lock.forget()


# A forked process shares the open files of its parent, and so would hold its locks for as long as it lives.
_held: WeakSet[Lock] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _write(descriptor: int, text: str) -> None:
    with suppress(OSError):  # a full disk; the lock is held all the same
        if os.fstat(descriptor).st_nlink == 1:  # else it would also be written to another file
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, text.encode())


def _read(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, _LONGEST_NOTE).decode("ascii", "replace").strip()


def _read_owner(descriptor: int) -> int | None:
    text = _read(descriptor)
    return int(text) if text.isdigit() else None


def _locked(ledger: Path, owner: int | None) -> LedgerLocked:
    if owner == os.getpid():
        text = (
            f"the ledger {ledger} is in use by this process itself: another OmniClient has it open. Close that one "
            "first (`await client.aclose()`, or leave its `async with` block), or use that one for everything: one "
            "client serves a whole program"
        )
    else:
        who = "another process" if owner is None else f"process {owner}"
        text = (
            f"the ledger {ledger} is in use by {who}. Wait until it has ended, or use another folder or ledger. One "
            "process writes a ledger (a web service: one worker); any number may read it with LedgerReader"
        )
    return LedgerLocked(text, pid=owner)


def _no_locking(ledger: Path, error: OSError) -> LedgerError:
    text = f"the ledger {ledger} cannot be locked: {error.strerror}. Keep it on a local disk (ledger=...)"
    return LedgerError(text, permanent=True)
