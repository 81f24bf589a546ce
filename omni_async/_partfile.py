"""A clip on its way to disk: a part file that is written, checked, made safe and only then given its name.

Plain blocking code, run in threads by the downloader.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from ._core import mp4

if TYPE_CHECKING:
    from pathlib import Path


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
        try:
            self._file = self._part.open("r+b", buffering=0)
            if self._file.seek(0, os.SEEK_END) >= offset:
                self._file.truncate(offset)
                return self._file.seek(offset)
        except FileNotFoundError:
            return 0
        self.empty()
        return 0

    def append(self, data: bytes | bytearray) -> None:
        """Write at the end."""
        view = memoryview(data)
        while view:
            view = view[self._open.write(view) :]

    def make_sure(self) -> None:
        """Have all that was written so far survive a power cut."""
        os.fsync(self._open.fileno())

    def empty(self) -> None:
        """Throw away what is there."""
        self._open.seek(0)
        self._open.truncate()

    def finish(self) -> str | None:
        """Give the clip its name, or say why it is no whole MP4.

        All is done in such an order that after a power cut the name holds the whole clip or is not there.
        """
        fault = _find_fault(self._open)
        if fault is None:
            self.make_sure()
            self.close()
            self._part.replace(self.path)
            _sync_folder(self.path.parent)
        return fault

    def close(self) -> None:
        """Close it and leave what is there for another day."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def discard(self) -> None:
        """Close it and remove it; one that cannot be removed stays, and does no harm."""
        self.close()
        with suppress(OSError):
            self._part.unlink()

    @property
    def _open(self) -> BinaryIO:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("w+b", buffering=0)
        return self._file


def prepare_folder(folder: Path) -> None:
    """Make a folder and write something there. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".omni-async-{os.getpid()}.part"
    probe.write_bytes(b"0")
    probe.unlink(missing_ok=True)  # another client of this process may prove the same folder at this moment


def is_whole(path: Path) -> bool:
    """Tell whether a file is there and is a whole MP4."""
    try:
        with path.open("rb") as file:
            return _find_fault(file) is None
    except OSError:
        return False


def _find_fault(file: BinaryIO) -> str | None:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return mp4.find_fault(read, file.seek(0, os.SEEK_END))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows cannot open a folder, and keeps its names safe by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
