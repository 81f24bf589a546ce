"""Every file that is written is opened or published here: no link is followed, and only regular files are written.

A folder may hold links, pipes and devices that somebody else has put there. Used by the ledger, the downloads and the
gallery. Everything raises `OSError`, whose text says what to do. SQLite opens its files itself, in the same way
(`O_NOFOLLOW`).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

# O_NONBLOCK: a pipe without a reader must not hold up the caller. It changes nothing for regular files.
_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

# Bytes that are compared at a time. Trades memory against system calls; chosen, not measured.
_PIECE = 1024 * 1024


class NameTaken(FileExistsError):
    """Something of this name exists already, and stays. The file that was to have the name needs another one."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EEXIST, "another file has this name", str(path))


def make_folders(path: Path) -> None:
    """Create a folder and those above it, unless it is there. Raise `OSError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a message would say "File exists", and not what is wrong with that
        raise NotADirectoryError(errno.ENOTDIR, "it is a file or a broken link, not a folder", str(path)) from error


def open_regular(path: Path, *, exclusive: bool = False, mode: int = 0o666) -> int:
    """Open or create a regular file for reading and writing. Return its descriptor; nothing is truncated.

    With `exclusive`, raise `NameTaken` if there is anything of this name, also a link that leads nowhere. `mode`
    is that of a new file, before the umask.
    """
    with suppress(FileNotFoundError):
        if not exclusive:  # looked at first: opening a device may have effects, and some systems lack O_NOFOLLOW
            _check_regular(path, path.lstat())
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE | (os.O_EXCL if exclusive else 0), mode)
    except FileExistsError as error:
        raise NameTaken(path) from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK}:  # EMLINK: FreeBSD's word for a link with O_NOFOLLOW
            raise _refusal(path, "is a symbolic link") from error
        raise
    try:
        _check_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_regular(path: Path, *, with_one_name: bool = False) -> bool:
    """Return whether there is a regular file of this name, not a link; if asked, one without other names."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and not (with_one_name and status.st_nlink > 1)


def make_folder(path: Path) -> None:
    """Create a folder inside of another if it is missing. Raise `OSError` if it is a link or not a folder."""
    with suppress(FileExistsError):
        path.mkdir()
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode):
        raise _refusal(path, "is a symbolic link" if stat.S_ISLNK(mode) else "is not a folder")


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace a file: it has its complete content or is left as it was. A link of this name is replaced.

    `write` is called once with a new temporary file, which is removed in any case.
    """
    temporary = temporary_path(path)
    try:
        with os.fdopen(open_regular(temporary, exclusive=True), "w+b") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a name beside a file that cannot be guessed, so that nothing can have been put there."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def publish(source: Path, path: Path) -> None:
    """Give a finished file its name, in one step. Raise `NameTaken` if there is anything of this name already."""
    try:
        if sys.platform == "win32":
            source.rename(path)  # which replaces nothing on Windows
            return
        if link(source, path):
            source.unlink()
        else:
            _publish_by_rename(source, path)
    except FileExistsError as error:
        raise NameTaken(path) from error


def link(source: Path, path: Path) -> bool:
    """Give a file a second name. Return False if that is impossible: on FAT, some network folders, another disk.

    Raise `NameTaken` if there is anything of this name already.
    """
    try:
        os.link(source, path, follow_symlinks=False)
    except FileExistsError as error:
        raise NameTaken(path) from error
    except (NotImplementedError, OSError):  # systems report this with many different codes
        return False
    return True


def _publish_by_rename(source: Path, path: Path) -> None:
    """Do the same where there are no hard links: an empty file reserves the name, so that nothing else gets it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o666))
    try:
        source.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def has_content_of(path: Path, source: Path) -> bool:
    """Return whether a file is a regular one with exactly the content of another. Links are not followed."""
    if not (is_regular(path) and path.stat().st_size == source.stat().st_size):
        return False
    with source.open("rb") as one, path.open("rb") as other:
        while piece := one.read(_PIECE):
            if piece != other.read(_PIECE):
                return False
        return not other.read(1)


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(path, "is a symbolic link" if stat.S_ISLNK(status.st_mode) else "is not a regular file")


def _refusal(path: Path, reason: str) -> OSError:
    text = f"it {reason}, and nothing is written through it: remove it, or use another folder"
    return OSError(errno.EINVAL, text, str(path))
