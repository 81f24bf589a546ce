"""One process owns a ledger: a lock on a file beside it, which the system lets go when the process dies."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from ..errors import LedgerError, LedgerLocked

if TYPE_CHECKING:
    from pathlib import Path


_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the text, which others shall be able to read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        """Nothing is forked there: closing is enough."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Lock:
    """Held from making it to `release`. The file itself stays: removing it would let two processes hold "it"."""

    def __init__(self, ledger: Path) -> None:
        """Take the lock. Raises `LedgerLocked` where somebody has it, `LedgerError` where there is no locking."""
        path = ledger.with_name(f"{ledger.name}.lock")
        self._descriptor: int | None = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LedgerError(f"the ledger {ledger} cannot be kept there: {error.strerror} ({path})") from error
        try:
            _lock(descriptor)
        except OSError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise _locked(ledger, owner) if error.errno in _TAKEN else _no_locking(ledger, error) from error
        self._descriptor = descriptor
        _held.add(self)
        with suppress(OSError):  # on a full disk nobody is told who has it; it is held all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0) if hasattr(os, "pwrite") else None

    def release(self) -> None:
        """Let go of it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _unlock(descriptor)  # closing alone would leave it to a process that was forked meanwhile
            os.close(descriptor)

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _forget_all() -> None:
    for lock in tuple(_held):
        lock.forget()


# A forked process shares the locks of its parent, and would hold them for as long as it lives.
_held: WeakSet[Lock] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _owner(descriptor: int) -> int | None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 32).decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else None


def _locked(ledger: Path, owner: int | None) -> LedgerLocked:
    who = "another process" if owner is None else "this process itself" if owner == os.getpid() else f"process {owner}"
    text = f"the ledger {ledger} is in use by {who}; wait until that has ended, or use another folder or ledger"
    return LedgerLocked(text, pid=owner)


def _no_locking(ledger: Path, error: OSError) -> LedgerError:
    text = f"the ledger {ledger} cannot be locked: {error.strerror}. Keep it on a disk of this machine (ledger=...)"
    return LedgerError(text)
