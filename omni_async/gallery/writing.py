"""The static page: writes `DIR/gallery.html` from a ledger, and the posters that it shows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_async import LEDGER_NAME, JobStatus, LedgerReader
from omni_async.files import write_atomically

from .entry import job_entry
from .page import render
from .posters import INSTALL_HINT, Posters, can_make_posters

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async import JobReader, JobRecord


PAGE_NAME = "gallery.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """The result of writing a gallery.

    `jobs` and `clips` count what the page shows. `posters` counts the posters made by this call, `without_poster` the
    clips that have none. `can_make_posters` is whether the libraries for them are installed.
    """

    path: Path
    jobs: int
    clips: int
    posters: int
    without_poster: int
    can_make_posters: bool


def write(
    ledger: str | os.PathLike[str] | JobReader,
    on_progress: Callable[[int], object] = lambda _: None,
    *,
    folder: Path | None = None,
) -> WriteResult:
    """Write `gallery.html` beside a ledger; `ledger` is the file or its folder. Blocks: for scripts or threads.

    Instead of a path, `ledger` may be an open reader, of a fleet for example; then `folder` is where its clips are and
    where the page is written.

    `on_progress` is called after each poster with the number of posters attempted so far. Raise `LedgerError` if the
    ledger cannot be read, `OSError` if the page cannot be written, and `RuntimeError` if jinja2 is not installed.
    """
    if isinstance(ledger, (str, os.PathLike)):
        with LedgerReader(ledger) as reader:
            records, path = list(reader.jobs()), reader.path
    else:
        if folder is None:
            raise TypeError("write(reader) needs the folder of the clips: write(reader, folder=...)")
        records, path = list(ledger.jobs()), folder / LEDGER_NAME
    folder = path.parent
    posters = Posters(folder)
    clips = [name for record in records if (name := _clip_name(record, folder))]
    has_libraries = can_make_posters()
    made = posters.make_all(clips, on_progress) if has_libraries else 0
    entries = [_entry(record, posters, folder) for record in records]
    page = render(page_data(path) | {"jobs": entries})
    write_atomically(folder / PAGE_NAME, lambda file: file.write(page))
    return WriteResult(
        path=folder / PAGE_NAME,
        jobs=len(records),
        clips=len(clips),
        posters=made,
        without_poster=sum("poster" not in entry for entry in entries if "clips" in entry),
        can_make_posters=has_libraries,
    )


def page_data(ledger: Path, *, is_live: bool = False) -> dict[str, Any]:
    """Return the data of a page without its jobs."""
    return {
        "folder": ledger.parent.absolute().name or str(ledger.parent),
        "written_at": round(time.time(), 3),
        "is_sandbox": ledger.name != LEDGER_NAME,
        "poster_hint": "" if can_make_posters() else INSTALL_HINT,
        "is_live": is_live,
        "jobs": [],
    }


def _clip_name(record: JobRecord, folder: Path) -> str:
    """Return the file name of a job's first clip, or "" if the file does not exist."""
    if record.status is not JobStatus.COMPLETED or not record.paths:
        return ""
    name = Path(record.paths[0]).name
    return name if (folder / name).is_file() else ""


def _entry(record: JobRecord, posters: Posters, folder: Path) -> dict[str, Any]:
    entry = job_entry(record, posters.find)
    if "clips" in entry and not _clip_name(record, folder):
        del entry["clips"]
        entry["error"] = (
            "The clip is no longer in its folder. Run the same command again to download it; you are not charged again."
        )
    return entry
