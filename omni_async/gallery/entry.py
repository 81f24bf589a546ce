"""One job as the page's JSON. The static page and the live page both show jobs in this form.

Field names are those of `JobRecord` where the value is the same. `clips` and `poster` are relative URLs.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from omni_async import DEFAULT_MODEL, JobStatus
from omni_async.formatting import error_without_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omni_async import JobRecord

    from .posters import Poster


_REFERENCE_FIELDS = ("images", "image_urls", "video", "video_urls", "first_frame_image", "last_frame_image")
_ASPECT_RATIO = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")
_URL = re.compile(r"https?://|data:", re.IGNORECASE)

# Characters of a reference that are shown. A data: URI may hold a complete video of 20 MiB, and every one of them would
# be part of the page. 200 keeps most links complete (chosen, not measured): at half, signed links are cut; at double,
# a page of a thousand jobs with data: URIs grows by 0.2 MB.
_MAX_REFERENCE_LENGTH = 200
# Characters kept of a reference that is cut: enough to recognise its media type.
_CUT_REFERENCE_LENGTH = 40


def job_entry(record: JobRecord, find_poster: Callable[[str], Poster | None]) -> dict[str, Any]:
    """Return a job as the page's JSON. Fields without a value are left out, which keeps the page small.

    `find_poster` is called with the file name of the first clip of a completed job.
    """
    names = [Path(path).name for path in record.paths] if record.status is JobStatus.COMPLETED else []
    poster = find_poster(names[0]) if names else None
    entry = {
        "key": record.key,
        "status": str(record.status),
        "task_id": record.task_id,
        **_request_fields(record.request),
        "parent": record.parent,
        "cost": round(record.total_cost, 6) if record.cost is not None or record.previous_cost else None,
        "server_seconds": _server_seconds(record),
        "created_at": record.created_at,
        "submitted_at": record.submitted_at,
        "accepted_at": record.accepted_at,
        "finished_at": record.finished_at,
        "submits": record.submits,
        "ambiguous_submits": record.ambiguous_submits,
        "possibly_paid_twice": record.possibly_paid_twice,
        "previous_task_ids": list(record.previous_task_ids),
        "error": error_without_job(record.error, record.key, record.task_id),
        "clips": [quote(os.fsencode(name)) for name in names],
        **(poster.to_json() if poster else {}),
    }
    return {name: value for name, value in entry.items() if value not in (None, "", 0, False, [])}


def _request_fields(request: str) -> dict[str, Any]:
    """Return the fields of a recorded request. Those of other versions or people: as far as possible."""
    try:
        fields = json.loads(request or "{}")
    except (ValueError, RecursionError):
        fields = {}
    fields = fields if isinstance(fields, dict) else {}
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    return {
        "prompt": texts.get("prompt"),
        "model": texts.get("model", DEFAULT_MODEL) if request else None,
        "aspect_ratio": _aspect_ratio(fields.get("aspect_ratio")),
        "references": list(_references(fields)),
        "extends": texts.get("extend_from_task_id"),
    }


def _aspect_ratio(text: object) -> float | None:
    """Return width divided by height; "9:16" is 0.5625."""
    match = _ASPECT_RATIO.fullmatch(text) if isinstance(text, str) else None
    return round(int(match[1]) / int(match[2]), 4) if match else None


def _references(fields: dict[str, Any]) -> Iterator[str]:
    """Yield the reference images and videos of a request. Of a local file, only the name: the page may be published."""
    for field in _REFERENCE_FIELDS:
        value = fields.get(field) or []
        for each in value if isinstance(value, list) else (value,):
            reference = str(each)
            if not _URL.match(reference):
                yield PurePath(reference).name
            elif len(reference) <= _MAX_REFERENCE_LENGTH:
                yield reference
            else:
                yield f"{reference[:_CUT_REFERENCE_LENGTH]}… ({len(reference):,} characters)"


def _server_seconds(record: JobRecord) -> float | None:
    """Return how long the server worked on the job, in seconds.

    If the server did not report it, return the time between acceptance and the check that saw the job finished. Of a
    job that ended only here, it is unknown.
    """
    seconds = record.server_seconds
    is_finished_there = record.status not in (JobStatus.CANCELLED, JobStatus.TIMED_OUT)
    if seconds is None and is_finished_there and record.finished_at is not None and record.accepted_at is not None:
        seconds = record.finished_at - record.accepted_at
    return None if seconds is None else round(seconds, 2)
