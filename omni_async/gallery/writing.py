"""From a ledger to a file: `DIR/gallery.html`, with the posters that it shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_async import LEDGER_NAME, JobStatus, LedgerReader

from .atomic import write_atomically
from .entry import entry_of
from .page import render
from .posters import INSTALL_HINT, Posters, can_be_made

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from omni_async import JobRecord


PAGE_NAME = "gallery.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What came of writing a gallery. `posters` counts those that were made now, `bare` clips without one.

    `can_have_posters` tells whether the libraries for them are there.
    """

    path: Path
    jobs: int
    clips: int
    posters: int
    without_poster: int
    can_have_posters: bool


def write(ledger: str | os.PathLike[str], tell: Callable[[int], object] = lambda _: None) -> WriteResult:
    """Write the gallery of a ledger (its file, or its folder) beside it. Blocking, for threads or scripts.

    `tell` gets the number of posters made so far. Raises `LedgerError` where the ledger cannot be read, `OSError` where
    the page cannot be written, and `RuntimeError` where jinja2 is missing.
    """
    with LedgerReader(ledger) as reader:
        records, ledger = list(reader.jobs()), reader.path
    folder = ledger.parent
    posters = Posters(folder)
    names = [name for record in records if (name := _clip_of(record, folder))]
    is_able = can_be_made()
    made = posters.make_all(names, tell) if is_able else 0
    entries = [_described(record, posters, folder) for record in records]
    path = folder / PAGE_NAME
    page = render(frame_of(ledger) | {"jobs": entries})
    write_atomically(path, lambda file: file.write_bytes(page))
    bare = sum("poster" not in entry for entry in entries if "clips" in entry)
    return WriteResult(
        path=path, jobs=len(records), clips=len(names), posters=made, without_poster=bare, can_have_posters=is_able
    )


def frame_of(ledger: Path, *, is_live: bool = False) -> dict[str, Any]:
    """Give what the page is told besides its jobs."""
    return {
        "folder": ledger.parent.absolute().name or str(ledger.parent),
        "written": round(time.time(), 3),
        "sandbox": ledger.name != LEDGER_NAME,
        "posters": "" if can_be_made() else INSTALL_HINT,
        "live": is_live,
        "jobs": [],
    }


def _clip_of(record: JobRecord, folder: Path) -> str:
    """Give the name of a job's first clip, if it is there."""
    if record.status is not JobStatus.COMPLETED or not record.paths:
        return ""
    name = Path(record.paths[0]).name
    return name if (folder / name).is_file() else ""


def _described(record: JobRecord, posters: Posters, folder: Path) -> dict[str, Any]:
    entry = entry_of(record, posters.find)
    if "clips" in entry and not _clip_of(record, folder):
        del entry["clips"]
        entry["error"] = (
            "The clip is not in its folder any more. Running the same batch again fetches it, without paying."
        )
    return entry
