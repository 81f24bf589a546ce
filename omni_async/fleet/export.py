"""Copies a fleet into a folder with an ordinary ledger: its clips and the records of its jobs. Used by `Fleet`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..errors import LedgerError
from ..jobs.clip_paths import clip_path
from ..jobs.lifecycle import NOT_RESUMABLE
from ..jobs.store import OUTPUT_DIR
from ..ledger import LEDGER_NAME, SqliteJobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .clips import Destination
    from .reader import FleetReader

# Clips that are copied at a time. As many as a client downloads by default.
_COPIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadResult:
    """What is in a folder after `Fleet.download`. `missing` are clips that are not in the clip store."""

    jobs: int
    clips: int
    missing: tuple[str, ...]


async def copy_to_folder(
    reader: FleetReader, destination: Destination, folder: Path, on_progress: Callable[[int], object]
) -> DownloadResult:
    """Copy the clips of all jobs that have ended into a folder, and their records into its ledger.

    What is there already is kept. Raise `LedgerError`, or `OSError` for the folder or the clip store.
    """
    folder = await anyio.to_thread.run_sync(_make_folder, folder)
    local = SqliteJobStore(folder / LEDGER_NAME)
    await local.open()
    jobs, clips, missing = 0, 0, list[str]()
    try:
        local.set_fact(OUTPUT_DIR, json.dumps(str(folder)))
        pages = reader.pages(*NOT_RESUMABLE)
        while (page := await anyio.to_thread.run_sync(next, pages, None)) is not None:
            copied = await _copy_clips([name for record in page for name in record.paths], destination, folder)
            missing += [name for name, is_there in copied.items() if not is_there]
            jobs, clips = jobs + len(page), clips + sum(copied.values())
            for record in page:
                existing = await local.insert(record)
                if existing is not None and not existing.is_same_work(record):
                    raise LedgerError(
                        f"{folder} holds another job {record.key!r}: choose another folder", permanent=True
                    )
                if existing is not None and existing.status is not record.status:
                    local.save(record)
            on_progress(clips)
    finally:
        await local.aclose()
    return DownloadResult(jobs=jobs, clips=clips, missing=tuple(missing))


def _make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


async def _copy_clips(names: list[str], destination: Destination, folder: Path) -> dict[str, bool]:
    """Copy clips, several at the same time, and return which of them were in the store."""
    copied: dict[str, bool] = {}
    places = anyio.Semaphore(_COPIES)

    async def copy(name: str) -> None:
        async with places:
            is_name = name == PurePath(name).name
            copied[name] = is_name and await destination.copy_to(name, clip_path(folder, name))

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(copy, name)
    return copied
