"""Atomic file writes: a file exists with its complete content or not at all. Used for the page and the posters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Create or replace `path` once `write` has filled a temporary file beside it.

    `write` is called once with the path of the temporary file. Create the parent folder if it is missing. Raise
    `OSError` if the file cannot be written; the temporary file is removed in any case.
    """
    path.parent.mkdir(exist_ok=True)
    # The process id keeps two commands that write the same gallery from sharing a temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
