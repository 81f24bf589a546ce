"""Safe file names for clips: readable, unique, and valid on every file system. The stores hand them out."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from ..plain_text import replace_harmful

# Bytes of a name without ".mp4". Every common file system allows 255; what is left serves `-2`, hashes and ".part".
_MAX_BYTES = 100
# The same for a name that the user has chosen, for example one that a benchmark looks for: as long as it can be.
_MAX_NAME_BYTES = 200
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


def stem_of_name(name: str) -> str:
    """Return a safe file name (without extension) for a name that the user has chosen, as similar as possible.

    Different names may have the same one. One that is too long is cut, and ends in its hash.
    """
    safe = _with_safe_characters(name)
    if len(safe.encode()) > _MAX_NAME_BYTES:
        return stem_with_hash(name, max_bytes=_MAX_NAME_BYTES)
    return f"_{safe}" if _RESERVED.fullmatch(safe) or not safe else safe


def stem_with_hash(key: str, *, name: str | None = None, max_bytes: int = _MAX_BYTES) -> str:
    """Return a safe file name for a key that ends in the key's hash, so that no other key has it.

    It begins like the key, or like `name`.
    """
    digest = f"-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
    # A cut may separate what joins two emoji from the second one.
    start = replace_harmful(_cut(_with_safe_characters(name or key), max_bytes - len(digest) - 1), "_")
    return f"{'_' if _RESERVED.fullmatch(start) else ''}{start}{digest}"


def _with_safe_characters(key: str) -> str:
    """Return a key with "_" for each character that a file system, a shell or a terminal treats specially."""
    name = unicodedata.normalize("NFC", key.encode("utf-8", "replace").decode())
    return _UNSAFE.sub("_", replace_harmful(name, "_"))


def _cut(text: str, size: int) -> str:
    """Cut to at most `size` bytes, never within a character, and without a dot or space at the end."""
    return text.encode()[:size].decode("utf-8", "ignore").rstrip(". ")


def candidates(key: str, index: int = 0, name: str | None = None) -> Iterator[str]:
    """Yield the names (without ".mp4") that video number `index` (from 0) of a key may have, the best one first.

    They are made from the key, or from the `name` that the user has chosen. The last two hold a hash of the key, so
    that at least one of them is free.
    """
    number = f"-{index + 1}" if index else ""
    yield f"{stem_of_name(name) if name else stem(key)}{number}"
    unique = stem_with_hash(key, name=name)
    yield f"{unique}{number}"
    yield f"{unique}.{index + 1}"


# The owner of a name under which there is a file that no job of this store has written.
NOT_OURS = ("", -1)


def claim(key: str, index: int, owner_of: Callable[[str], tuple[str, int]], *, name: str | None = None) -> str:
    """Return the file name (with ".mp4") of video number `index` (from 0) of a key, after `name` if there is one.

    `owner_of(name)` claims a name for the video if it is free, and returns its owner: a key and an index, or
    `NOT_OURS`. Names are compared without case, for file systems that do not distinguish "A" from "a". If somebody
    else's file has the name, the clip's is `fox-new.mp4`, `fox-new2.mp4`, ...
    """
    for candidate in candidates(key, index, name):
        owner = owner_of(candidate.casefold())
        if owner == (key, index):
            return f"{candidate}.mp4"
        if owner == NOT_OURS:
            marked = (f"{candidate}-new{'' if number == 1 else number}" for number in count(1))
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

    def claim(self, key: str, index: int = 0, *, taken: str = "", name: str | None = None) -> str:
        """Return the file name of a video, after `name` if there is one.

        `taken` is a file name that it had, under which somebody else's file was found.
        """
        if taken and self._owners.get(claimed_name(taken)) == (key, index):
            self._owners[claimed_name(taken)] = NOT_OURS
        return claim(key, index, lambda stem: self._owners.setdefault(stem, (key, index)), name=name)
