"""A clip on its way to disk: a part file that is written, checked, made safe and only then given its name.

Plain blocking code, run in threads by the downloader.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from . import mp4

if TYPE_CHECKING:
    from pathlib import Path


if sys.platform != "win32":
    import fcntl

_IS_WINDOWS = sys.platform == "win32"
_READ_WRITE_CREATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class PartFile:
    """`<name>.mp4.part` beside the `<name>.mp4` that it is to become. All but `discard` may raise `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        self._file: BinaryIO | None = None

    def open(self, offset: int) -> int:
        """Open the part file that is there, with its first `offset` bytes, if it has them; else an empty one.

        Gives how many bytes it holds now. One that is not opened so is made empty when something is to be written.
        """
        if not self._part.exists():
            return 0
        self._file = file = self._owned()
        kept = offset if file.seek(0, os.SEEK_END) >= offset else 0
        file.truncate(kept)
        return file.seek(kept)

    def append(self, data: bytes | bytearray) -> None:
        """Write at the end."""
        view = memoryview(data)
        while view:
            view = view[self._open.write(view) :]

    def sync(self) -> None:
        """Have all that was written so far survive a power cut."""
        os.fsync(self._open.fileno())

    def truncate(self) -> None:
        """Throw away what is there."""
        self._open.seek(0)
        self._open.truncate()

    def commit(self, last: bytes | bytearray = b"") -> str | None:
        """Write the last bytes and give the clip its name, or say why it is no whole MP4.

        All is done in such an order that after a power cut the name holds the whole clip or is not there.
        """
        is_in_one_piece = self._file is None and len(last) > 0  # then it need not be read again to be looked at
        self.append(last)
        fault = _find_fault_of(last) if is_in_one_piece else _find_fault(self._open)
        if fault is None:
            self.sync()
            if _IS_WINDOWS:  # which renames no open file
                self.close()
            self._part.replace(self.path)
            self.close()
            _sync_folder(self.path.parent)
        return fault

    def close(self) -> None:
        """Close it and leave what is there for another day."""
        file, self._file = self._file, None
        if file is not None:
            _unlock(file)
            file.close()

    def discard(self) -> None:
        """Close it and remove it, if it was opened; one that cannot be removed stays, and does no harm."""
        if self._file is None:
            return  # it may be another client's
        if _IS_WINDOWS:
            self.close()
        with suppress(OSError):
            self._part.unlink()
        self.close()

    def _owned(self) -> BinaryIO:
        """Open the part file, or make it, for nobody else: two that wrote it in turns might even make a whole MP4."""
        while True:
            file = os.fdopen(os.open(self._part, _READ_WRITE_CREATE, 0o666), "r+b", buffering=0)
            try:
                if not _try_lock(file):
                    raise BlockingIOError(errno.EBUSY, "another client is writing it", str(self._part))
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self._part.stat()):
                        return file
            except BaseException:
                file.close()
                raise
            file.close()  # whoever had it has just given it its name

    @property
    def _open(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = self._owned()
            except FileNotFoundError:  # the folder has vanished meanwhile
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._owned()
            if self._file.seek(0, os.SEEK_END):  # of an earlier run, which has not made sure of it
                self._file.truncate(0)
                self._file.seek(0)
        return self._file


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file; False if somebody else has it. Where a file system knows no locks, there are none."""
    try:
        if not _IS_WINDOWS:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EAGAIN}
    return True


def _unlock(file: BinaryIO) -> None:
    with suppress(OSError):
        if not _IS_WINDOWS:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)  # closing alone would leave it to a process forked meanwhile


def prepare_folder(folder: Path) -> None:
    """Make a folder and write something there. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".omni-async-{os.getpid()}.part"
    probe.write_bytes(b"0")
    probe.unlink(missing_ok=True)  # another client of this process may prove the same folder at this moment


def is_complete(path: Path) -> bool:
    """Tell whether a file is there and is a whole MP4."""
    try:
        with path.open("rb") as file:
            return _find_fault(file) is None
    except OSError:
        return False


def _find_fault_of(clip: bytes | bytearray) -> str | None:
    return mp4.find_defect(lambda offset, length: bytes(clip[offset : offset + length]), len(clip))


def _find_fault(file: BinaryIO) -> str | None:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return mp4.find_defect(read, file.seek(0, os.SEEK_END))


def _sync_folder(folder: Path) -> None:
    if _IS_WINDOWS:
        return  # Windows cannot open a folder, and keeps its names safe by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
