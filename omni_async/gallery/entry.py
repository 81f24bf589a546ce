"""What the page is told of a job: the facts of its row in the ledger, by names of the page's own."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from omni_async import DEFAULT_MODEL, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omni_async import JobRecord

    from .posters import Poster


_REFERENCES = ("images", "image_urls", "video", "video_urls", "first_frame_image", "last_frame_image")
_RATIO = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")
_LINK = re.compile(r"https?://|data:", re.IGNORECASE)
_LONGEST_REFERENCE = 200  # characters; a data: URI may hold a whole video


def entry_of(record: JobRecord, poster_of: Callable[[str], Poster | None]) -> dict[str, Any]:
    """Give what the page is told of a job; what is nothing is left out. `poster_of` takes the name of a clip."""
    names = [Path(path).name for path in record.paths] if record.status is JobStatus.COMPLETED else []
    poster = poster_of(names[0]) if names else None
    entry = {
        "key": record.key,
        "status": str(record.status),
        "task": record.task_id,
        **_wishes(record.request),
        "parent": record.parent,
        "cost": round(record.total_cost, 6) if record.cost is not None or record.previous_cost else None,
        "took": _seconds(record),
        "created": record.created_at,
        "submitted": record.submitted_at,
        "accepted": record.accepted_at,
        "finished": record.finished_at,
        "submits": record.submits,
        "doubtful": record.ambiguous_submits,
        "twice": record.possibly_paid_twice,
        "earlier": list(record.previous_task_ids),
        "error": _reason(record),
        "clips": [quote(name) for name in names],
        **(poster.as_json() if poster else {}),
    }
    return {name: value for name, value in entry.items() if value not in (None, "", 0, False, [])}


def _wishes(request: str) -> dict[str, Any]:
    """Give what was asked for. A request of an older or newer version of this program is read as far as it goes."""
    try:
        wished = json.loads(request or "{}")
    except ValueError:
        wished = {}
    return {
        "prompt": wished.get("prompt"),
        "model": wished.get("model", DEFAULT_MODEL) if request else None,
        "ratio": _ratio(wished.get("aspect_ratio")),
        "references": list(_references(wished)),
        "extends": wished.get("extend_from_task_id"),
    }


def _ratio(words: object) -> float | None:
    """Give how much wider than high it shall be; "9:16" is 0.5625."""
    found = _RATIO.fullmatch(words) if isinstance(words, str) else None
    return round(int(found[1]) / int(found[2]), 4) if found else None


def _references(wished: dict[str, Any]) -> Iterator[str]:
    """Give pictures and videos that were handed over; of a file its name only, since the page may be published."""
    for field in _REFERENCES:
        given = wished.get(field) or ()
        for each in (given,) if isinstance(given, str) else given:
            reference = str(each)
            if not _LINK.match(reference):
                yield PurePath(reference).name
            elif len(reference) <= _LONGEST_REFERENCE:
                yield reference
            else:
                yield f"{reference[:40]}… ({len(reference):,} characters)"


def _seconds(record: JobRecord) -> float | None:
    """Give how long the server took, or, where it did not say, how long it took from here to here."""
    took = record.server_seconds
    if took is None and record.finished_at is not None and record.accepted_at is not None:
        took = record.finished_at - record.accepted_at
    return None if took is None else round(took, 2)


def _reason(record: JobRecord) -> str:
    """Give what went wrong without the name of the job, which stands beside it."""
    text = record.error.removeprefix(f"job {record.key!r}")
    if record.task_id:
        text = text.removeprefix(f" (task {record.task_id})")
    return text.removeprefix(":").strip()
