"""Safe file names for clips: readable, unique, and valid on every file system."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LONGEST = 100  # bytes, of the name without ".mp4"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|^[.\s]+|[.\s]+$')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\..*)?", re.IGNORECASE)


def stem(key: str) -> str:
    """Give a safe file name (without ending) for a key: the key itself if it is safe, else marked with its hash."""
    name = unicodedata.normalize("NFC", key.encode("utf-8", "replace").decode())
    name = _UNSAFE.sub("_", name)
    if name == key and len(name.encode()) <= _LONGEST and not _RESERVED.fullmatch(name):
        return name
    return stem_with_hash(key)


def stem_with_hash(key: str) -> str:
    """Give the safe name of a key with its hash, which no other key has."""
    name = unicodedata.normalize("NFC", key.encode("utf-8", "replace").decode())
    mark = f"-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
    name = _cut(_UNSAFE.sub("_", name), _LONGEST - len(mark) - 1)
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return f"{name}{mark}"


def _cut(text: str, longest: int) -> str:
    """Cut to so many bytes, never within a character, and never so that it ends in a dot or space."""
    return text.encode()[:longest].decode("utf-8", "ignore").rstrip(". ")


def candidates(key: str, index: int = 0) -> tuple[str, ...]:
    """Give the names (without ".mp4") that video number `index` (from 0) of a key may have, the best one first.

    The last two hold a hash of the key, which no other key has.
    """
    number = f"-{index + 1}" if index else ""
    return f"{stem(key)}{number}", f"{stem_with_hash(key)}{number}", f"{stem_with_hash(key)}.{index + 1}"


class FileNames:
    """Hands out file names: the same one always for the same video of the same key, and to no other.

    Names are compared without case, for file systems that cannot tell "A" from "a".
    """

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, int]] = {}

    def claim(self, key: str, index: int = 0) -> str:
        """Give the file name (with ".mp4") of video number `index` (from 0) of a key."""
        for name in candidates(key, index):
            if self._owners.setdefault(name.casefold(), (key, index)) == (key, index):
                return f"{name}.mp4"
        raise RuntimeError(f"no file name is free for key {key!r}")  # needs keys made to collide with a hash
