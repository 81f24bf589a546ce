"""Where the clips of a ledger are, and where they were before: rows hold file names only. Used by `Downloader`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..jobs.store import EARLIER_OUTPUT_DIRS, OUTPUT_DIR
from ..logs import get_logger

if TYPE_CHECKING:
    from ..jobs.store import JobStore

_log = get_logger(__name__)

# Earlier folders that a ledger remembers. Each is looked into for a clip that is missing: half would do for most
# programs, and double costs a few more looks for each missing clip. Chosen, not measured.
_MAX_EARLIER = 20


async def record_output_dir(store: JobStore, root: Path) -> tuple[bool, list[Path]]:
    """Record where the clips are, for readers and later runs.

    Return whether the last run had another folder that still exists, and all earlier folders that still exist, the
    latest first. Warn in the first case: the old folder may hold clips.
    """
    folder, before = str(root), await _folders(store, OUTPUT_DIR)
    known = dict.fromkeys([*before, *await _folders(store, EARLIER_OUTPUT_DIRS)])  # without doubles
    earlier = [each for each in known if each != folder][:_MAX_EARLIER]
    if before != [folder]:
        # Not awaited: a full disk stops submits, not the opening.
        store.set_fact(EARLIER_OUTPUT_DIRS, json.dumps(earlier))
        store.set_fact(OUTPUT_DIR, json.dumps(folder))
    there = await asyncio.to_thread(_existing, earlier) if earlier else []
    is_left = before != [folder] and before[:1] == there[:1] != []  # a folder that is gone was moved to this place
    if is_left:
        _log.warning(
            "the clips of this ledger were in %s until now. New ones are stored in %s; an earlier one is linked or "
            "copied there when its job is submitted again, so keep the old folder until then",
            before[0],
            root,
        )
    return is_left, [Path(each) for each in there]


def _existing(folders: list[str]) -> list[str]:
    # It never raises: a folder may be another user's, or a path of another system.
    return [folder for folder in folders if os.path.isdir(folder)]  # noqa: PTH112 - `Path.is_dir` may raise


async def _folders(store: JobStore, fact: str) -> list[str]:
    """Return the folders that a fact names: one, or a list of them. A fact in another form names none."""
    try:
        value = json.loads(await store.get_fact(fact) or "[]")
    except (ValueError, RecursionError):
        return []
    folders = value if isinstance(value, list) else [value]
    return [each for each in folders if isinstance(each, str) and each and "\0" not in each]
