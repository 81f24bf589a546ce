"""A clip on its way to disk: a part file that is written, verified, synced and only then given its name.

Plain blocking code. `FolderClipStore` runs it in threads.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from ..exhaustion import is_out_of_resources
from . import mp4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


if sys.platform != "win32":
    import fcntl

_IS_WINDOWS = sys.platform == "win32"
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class PartFile:
    """`<name>.mp4.part`, beside the `<name>.mp4` that it becomes. Every method but `discard` may raise `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        self._file: BinaryIO | None = None

    def open(self, offset: int) -> int:
        """Open an existing part file and keep its first `offset` bytes. Return how many bytes it holds now.

        If the file is missing, or shorter than `offset`, nothing is kept. A part file that was not opened here is
        emptied by the first write.
        """
        if not self._part.exists():
            return 0
        self._file = file = self._open_locked()
        kept = offset if file.seek(0, os.SEEK_END) >= offset else 0
        file.truncate(kept)
        return file.seek(kept)

    def append(self, data: bytes | bytearray) -> None:
        """Write at the end: all of it, or nothing."""
        file, view = self._opened, memoryview(data)
        end = file.tell()
        try:
            while view:
                view = view[file.write(view) :]
        except OSError:
            with suppress(OSError):
                file.seek(end)
                file.truncate()
            raise

    def sync(self) -> None:
        """Make what was written so far survive a power cut."""
        os.fsync(self._opened.fileno())

    def truncate(self) -> None:
        """Delete what was written so far."""
        self._opened.seek(0)
        self._opened.truncate()

    def commit(self, last: bytes | bytearray = b"") -> str | None:
        """Write the last bytes and give the clip its name, or return why it is not a complete MP4.

        The order of the steps makes sure that after a power cut the name holds a complete clip or does not exist.
        """
        is_in_memory = self._file is None and len(last) > 0  # then it need not be read again to be verified
        _ = self._opened  # creates the folder
        # Opened before a byte is written: without a free descriptor nothing has happened, and `commit` can be repeated.
        with _opened_folder(self.path.parent) as sync_folder:
            self.append(last)
            defect = mp4.find_defect_in(last) if is_in_memory else _find_defect(self._opened)
            if defect is None:
                self.sync()
                if _IS_WINDOWS:  # Windows cannot rename an open file
                    self.close()
                self._part.replace(self.path)
                self.close()
                sync_folder()
            return defect

    def close(self) -> None:
        """Close the part file, and keep it: a later run may continue it."""
        file, self._file = self._file, None
        if file is not None:
            _unlock(file)
            file.close()

    def discard(self) -> None:
        """Close the part file and remove it. If it cannot be removed, it stays and does no harm."""
        if self._file is None:
            return  # it was not opened here: it may belong to another client
        if _IS_WINDOWS:
            self.close()
        with suppress(OSError):
            self._part.unlink()
        self.close()

    def _open_locked(self) -> BinaryIO:
        """Open or create the part file, and lock it. Two clients writing in turns could even make a valid MP4."""
        while True:
            file = os.fdopen(os.open(self._part, _OPEN_FLAGS, 0o666), "r+b", buffering=0)
            try:
                if not _try_lock(file):
                    raise BlockingIOError(errno.EBUSY, "another client is writing it", str(self._part))
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self._part.stat()):
                        return file
            except BaseException:
                file.close()
                raise
            file.close()  # its former owner has just renamed it: this file is the finished clip now

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = self._open_locked()
            except FileNotFoundError:  # the folder was removed meanwhile
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._open_locked()
            if self._file.seek(0, os.SEEK_END):  # left by an earlier run that recorded no checkpoint of it
                self._file.truncate(0)
                self._file.seek(0)
        return self._file


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file. Return False if another client holds the lock.

    On a file system without locks, return True: `flock` fails there, and clips must be stored all the same.
    """
    try:
        if not _IS_WINDOWS:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EAGAIN}
    return True


def _unlock(file: BinaryIO) -> None:
    with suppress(OSError):
        if not _IS_WINDOWS:
            # Closing alone would leave the lock to a process that was forked meanwhile.
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def prepare_folder(folder: Path) -> None:
    """Create a folder and check that files can be written there. Raise `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".omni-async-{os.getpid()}.part"
    probe.write_bytes(b"0")
    probe.unlink(missing_ok=True)  # another client of this process may be checking the same folder


def is_complete(path: Path) -> bool:
    """Return whether there is a file that is a complete MP4. Raise `OSError` only if this machine is short of files."""
    try:
        with path.open("rb") as file:
            return _find_defect(file) is None
    except OSError as error:
        if is_out_of_resources(error):
            raise
        return False


def _find_defect(file: BinaryIO) -> str | None:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return mp4.find_defect(read, file.seek(0, os.SEEK_END))


@contextmanager
def _opened_folder(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that makes the names of a folder survive a power cut."""
    if _IS_WINDOWS:
        yield lambda: None  # Windows cannot open a folder, and keeps renames durable without it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield lambda: os.fsync(descriptor)
    finally:
        os.close(descriptor)
