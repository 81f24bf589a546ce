"""The path of a clip, given the folder and its file name in the ledger."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .html import video_html

# A subclass of `Path` itself has no implementation before Python 3.12.
if sys.platform == "win32":
    from pathlib import WindowsPath as _SystemPath
else:
    from pathlib import PosixPath as _SystemPath


class ClipPath(_SystemPath):
    """A path that a notebook shows as the video. What is derived from it is one too, and shows if it is a video."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return video_html(self) if self.suffix == ".mp4" else None


def clip_path(folder: Path, name: str) -> Path:
    """Return the path of a clip. The file has the same bytes for a name wherever the program runs.

    The ledger holds names as text. Where the file system's encoding has no such letters (the locale C without UTF-8
    mode, or Latin-1), the file is named in UTF-8 all the same: a clip that is paid for must be stored, and a run in
    another locale must find it.
    """
    return ClipPath(folder, encodable(name))


def encodable(name: str) -> str:
    """Return a name, or path, as text that `open` accepts: in a foreign encoding, its UTF-8 bytes are escaped."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return os.fsdecode(name.encode("utf-8", "surrogateescape"))
    return name
