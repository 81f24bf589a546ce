"""A clip on its way to disk: a part file that is written, verified, synced and only then given its name.

Plain blocking code. `FolderClipStore` runs it in threads. This module decides which files in the folder belong to
others. Those are left as they are.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from ..exhaustion import is_out_of_resources
from ..files import NameTaken, has_content_of, is_regular, link, make_folders, open_regular, publish, temporary_path
from . import containers, mp4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


if sys.platform != "win32":
    import fcntl

_IS_WINDOWS = sys.platform == "win32"
_PIECE = 1024 * 1024  # bytes that are copied at a time; chosen, not measured


class PartFile:
    """`<name>.mp4.part`, beside the `<name>.mp4` that it becomes. Every method but `discard` may raise `OSError`.

    It is `NameTaken`, and nothing is changed, if somebody else's file has one of these names. With `is_resumed`, an
    existing part file counts as that of an earlier run; with `replace`, so does a file of the final name.
    """

    def __init__(self, path: Path, *, is_resumed: bool = True, replace: bool = False) -> None:
        self.path: Path = path
        self._part: Path = part_of(path)
        self._is_resumed = is_resumed
        self._replace = replace
        self._file: BinaryIO | None = None
        self._kept: Path | None = None  # what `keep_unverified` has kept

    def rename(self, name: str) -> None:
        """Give the clip another name. What was written so far stays in its part file."""
        self.path = self.path.with_name(name)
        if self._file is None:
            self._part = part_of(self.path)

    def open(self, offset: int) -> int:
        """Open an existing part file and keep its first `offset` bytes. Return how many bytes it holds now.

        If the file is missing, or shorter than `offset`, nothing is kept. A part file that was not opened here is
        emptied by the first write.
        """
        if self._is_anothers():
            return 0
        try:
            self._file = file = self._open_locked()
        except FileNotFoundError:
            return 0
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

    def flusher(self) -> Callable[[], None]:
        """Return a function for another thread that makes durable what was written so far, while more is written."""
        descriptor = os.dup(self._opened.fileno())  # the file may be closed before the work is done

        def flush() -> None:
            try:
                _sync_data(descriptor)
            finally:
                os.close(descriptor)

        return flush

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
            end = self._opened.tell()
            self.append(last)
            defect = mp4.find_defect_in(last) if is_in_memory else _find_defect(self._opened)
            if defect is None:
                self.sync()
                try:
                    self._publish()
                except NameTaken:
                    self._file = self._file or self._open_locked()
                    self._opened.truncate(end)  # so that `commit` can be repeated under another name
                    self._opened.seek(end)
                    raise
                self.close()
                sync_folder()
            return defect

    def _publish(self) -> None:
        """Give the clip its name. Replace what is there only if it is known to be this clip."""
        if _IS_WINDOWS:  # Windows cannot rename an open file; it is opened again if the name is taken
            self.close()
        # An earlier run may have published the clip without recording it. Then the file is the clip already.
        if has_content_of(self.path, self._part):
            self._part.unlink()
        elif self._replace and is_regular(self.path):
            self._part.replace(self.path)
        else:
            publish(self._part, self.path)
        self._remove_unverified()

    def keep_unverified(self) -> str | None:
        """Rename the part file if it is a complete video, but not a plain MP4. Return its name; None if it is not."""
        file = self._opened
        suffix = containers.identify(_reader(file), file.seek(0, os.SEEK_END))
        if not suffix:
            return None
        kept = self._unverified_path(suffix)
        with _opened_folder(self.path.parent) as sync_folder:
            self.sync()
            if _IS_WINDOWS:
                self.close()
            try:
                if (self._is_own(kept) and is_regular(kept)) or has_content_of(kept, self._part):
                    self._part.replace(kept)
                else:
                    publish(self._part, kept)
            except NameTaken:
                self._file = self._file or self._open_locked()
                raise
            self.close()
            self._remove_unverified(but=kept)
            self._kept = kept
            sync_folder()
        return kept.name

    def _is_own(self, kept: Path) -> bool:
        """Return whether a kept video of this name is of this clip, from this run or an earlier one."""
        return self._is_resumed or self._replace or kept == self._kept

    def _unverified_path(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.stem}.unverified.{suffix}")

    def _remove_unverified(self, but: Path | None = None) -> None:
        """Remove what was kept of this clip before: one file for each clip is enough."""
        kept = {self._kept} if self._kept is not None else set()
        if self._is_resumed or self._replace:  # also what an earlier run has kept
            kept |= set(map(self._unverified_path, containers.SUFFIXES))
        for path in kept - {but}:
            with suppress(OSError):
                path.unlink()

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

    def _is_anothers(self) -> bool:
        """Return whether this client cannot have written the part file: it is a link, a pipe, or has a second name."""
        try:
            status = self._part.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
            return not stat.S_ISREG(status.st_mode)
        with suppress(OSError):
            if os.path.samestat(status, self.path.lstat()):  # a run was killed while it gave the clip its name
                self._part.unlink()
                return False
        return True  # what is written to it would also be in another file

    def _open_new(self) -> BinaryIO:
        """Create the part file, or empty the one that a run of this job has left. Raise `NameTaken`."""
        with suppress(NameTaken):
            return self._open_locked(exclusive=True)
        if self._is_anothers() or not self._is_resumed:
            raise NameTaken(self._part)
        return self._open_locked()

    def _open_locked(self, *, exclusive: bool = False) -> BinaryIO:
        """Open the part file, and lock it. Two clients writing in turns could even make a valid MP4."""
        while True:
            file = os.fdopen(open_regular(self._part, exclusive=exclusive), "r+b", buffering=0)
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
                self._file = self._open_new()
            except FileNotFoundError:  # the folder was removed meanwhile
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._open_new()
            if self._file.seek(0, os.SEEK_END):  # left by an earlier run that recorded no checkpoint of it
                self._file.truncate(0)
                self._file.seek(0)
        return self._file


# The size of the file, which `fdatasync` makes durable too, is all that matters of its metadata.
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def part_of(path: Path) -> Path:
    """Return the path of the part file of a clip."""
    return path.with_name(f"{path.name}.part")


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


def prepare_folder(folder: Path) -> frozenset[str]:
    """Create a folder and check that files can be written there. Raise `OSError`.

    Return the names of the part files in it, without case.
    """
    make_folders(folder)
    probe = temporary_path(folder / "omni-async")
    try:
        with os.fdopen(open_regular(probe, exclusive=True), "wb") as file:
            file.write(b"0")
    finally:
        probe.unlink(missing_ok=True)
    with os.scandir(folder) as entries:
        return frozenset(name for entry in entries if (name := entry.name.casefold()).endswith(".part"))


def is_complete(path: Path) -> bool:
    """Return whether there is a file that is a complete MP4. Raise `OSError` only if this machine is short of files."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return _find_defect(file) is None
    except OSError as error:
        if is_out_of_resources(error):
            raise
        return False


def take_clip(source: Path, path: Path) -> bool:
    """Link or copy a complete clip of another folder into this one. Return False if there is no such clip.

    Raise `NameTaken` if anything else has the name, and `OSError` if the clip cannot be copied.
    """
    if not is_regular(source) or not is_complete(source):
        return False
    if has_content_of(path, source):  # another client has been faster
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    if not link(source, path):
        _copy(source, path)
    with _opened_folder(path.parent) as sync_folder:
        sync_folder()
    return True


def _copy(source: Path, path: Path) -> None:
    """Copy a clip. The copy has its name when it is complete and on disk."""
    temporary = temporary_path(path)
    try:
        with os.fdopen(open_regular(temporary, exclusive=True), "w+b") as file:
            with source.open("rb") as clip:
                shutil.copyfileobj(clip, file, _PIECE)
            file.flush()
            os.fsync(file.fileno())
            if (defect := _find_defect(file)) is not None:  # the file was changed meanwhile
                raise OSError(errno.EIO, f"it cannot be copied: {defect}", str(source))
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _find_defect(file: BinaryIO) -> str | None:
    return mp4.find_defect(_reader(file), file.seek(0, os.SEEK_END))


def _reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read


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
