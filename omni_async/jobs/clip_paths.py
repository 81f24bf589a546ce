"""The path of a clip, given the folder and its file name in the ledger."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def clip_path(folder: Path, name: str) -> Path:
    """Return the path of a clip. The file has the same bytes for a name wherever the program runs.

    The ledger holds names as text. Where the file system's encoding has no such letters (the locale C without UTF-8
    mode, or Latin-1), the file is named in UTF-8 all the same: a clip that is paid for must be stored, and a run in
    another locale must find it.
    """
    return folder / encodable(name)


def encodable(name: str) -> str:
    """Return a name, or path, as text that `open` accepts: in a foreign encoding, its UTF-8 bytes are escaped."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return os.fsdecode(name.encode("utf-8", "surrogateescape"))
    return name
