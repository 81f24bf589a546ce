"""Safe file names for clips: readable, unique, and valid on every file system. The stores hand them out."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

from ..plain_text import replace_harmful

# Bytes of a name without ".mp4". Every common file system allows 255; what is left serves `-2`, hashes and ".part".
_MAX_BYTES = 100
# Characters that Windows, macOS or a shell treats specially, beside those of `replace_harmful`, and dots or spaces at
# an end, which Windows drops.
_UNSAFE = re.compile(r'[/\\:*?"<>|]|^[.\s]+|[.\s]+$')
# Names of devices on Windows, with any extension.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\..*)?", re.IGNORECASE)


def stem(key: str) -> str:
    """Return a safe file name (without extension) for a key: the key itself if it is safe, else with its hash."""
    name = _with_safe_characters(key)
    if name == key and len(name.encode()) <= _MAX_BYTES and not _RESERVED.fullmatch(name):
        return name
    return stem_with_hash(key)


def stem_with_hash(key: str) -> str:
    """Return a safe file name for a key that ends in the key's hash, so that no other key has it."""
    digest = f"-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
    # A cut may separate what joins two emoji from the second one.
    name = replace_harmful(_cut(_with_safe_characters(key), _MAX_BYTES - len(digest) - 1), "_")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return f"{name}{digest}"


def _with_safe_characters(key: str) -> str:
    """Return a key with "_" for each character that a file system, a shell or a terminal treats specially."""
    name = unicodedata.normalize("NFC", key.encode("utf-8", "replace").decode())
    return _UNSAFE.sub("_", replace_harmful(name, "_"))


def _cut(text: str, size: int) -> str:
    """Cut to at most `size` bytes, never within a character, and without a dot or space at the end."""
    return text.encode()[:size].decode("utf-8", "ignore").rstrip(". ")


def candidates(key: str, index: int = 0) -> tuple[str, ...]:
    """Return the names (without ".mp4") that video number `index` (from 0) of a key may have, the best one first.

    The last two hold a hash of the key, so that at least one of them is free.
    """
    number = f"-{index + 1}" if index else ""
    return f"{stem(key)}{number}", f"{stem_with_hash(key)}{number}", f"{stem_with_hash(key)}.{index + 1}"


# The owner of a name under which there is a file that no job of this store has written.
NOT_OURS = ("", -1)


def claim(key: str, index: int, owner_of: Callable[[str], tuple[str, int]]) -> str:
    """Return the file name (with ".mp4") of video number `index` (from 0) of a key.

    `owner_of(name)` claims a name for the video if nobody has it, and returns its owner: a key and an index, or
    `NOT_OURS`. Names are compared without case, for file systems that do not distinguish "A" from "a". If somebody
    else's file has the name, the clip's is `fox-new.mp4`, `fox-new2.mp4`, ...
    """
    for name in candidates(key, index):
        owner = owner_of(name.casefold())
        if owner == (key, index):
            return f"{name}.mp4"
        if owner == NOT_OURS:
            marked = (f"{name}-new{'' if number == 1 else number}" for number in count(1))
            return next(f"{each}.mp4" for each in marked if owner_of(each.casefold()) == (key, index))
    raise RuntimeError(f"no file name is free for key {key!r}")  # takes keys that were made to collide in a hash


def claimed_name(filename: str) -> str:
    """Return what is claimed for a file name: the name without ".mp4" and without case."""
    return filename.removesuffix(".mp4").casefold()


class FileNames:
    """Hands out file names: always the same one for the same video of the same key, and to no other.

    See `claim`. `MemoryJobStore` has one.
    """

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, int]] = {}

    def claim(self, key: str, index: int = 0, *, taken: str = "") -> str:
        """Return the file name of a video. `taken` is one that it had, under which somebody else's file was found."""
        if taken and self._owners.get(claimed_name(taken)) == (key, index):
            self._owners[claimed_name(taken)] = NOT_OURS
        return claim(key, index, lambda name: self._owners.setdefault(name, (key, index)))
