"""The format of a job's row: which columns there are, and how a `JobRecord` becomes a row and back.

Used by the SQL statements of this package. It imports no database, so that another SQL store can use the same format.
"""

from __future__ import annotations

import json
from collections.abc import Callable  # noqa: TC003 - of the table below
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..jobs.clip_paths import encodable
from ..jobs.lifecycle import JobStatus
from ..jobs.records import JobRecord, PartialDownload
from ..models.amounts import CREDITS_PER_USD, MAX_USD, plausible_credits, plausible_seconds, plausible_usd
from ..models.responses import Video

if TYPE_CHECKING:
    from collections.abc import Sequence


# The columns of the table `jobs`, without its `id`. A request has a table of its own.
COLUMNS = (
    "key",
    "idempotency_key",
    "parent",
    "parent_task_id",
    "status",
    "task_id",
    "created_at",
    "submitted_at",
    "accepted_at",
    "finished_at",
    "server_seconds",
    "submits",
    "ambiguous_submits",
    "cost",
    "credits",
    "paths",
    "error",
    "previous_task_ids",
    "previous_cost",
    "partial_download",
    "sent_references",
    "webhook",
    "videos",
    "name",
)


# The same for sums in SQL: only amounts that can be true count. SQLite sorts text and blobs after every number.
_LARGEST = {"cost": MAX_USD, "previous_cost": MAX_USD, "credits": MAX_USD * CREDITS_PER_USD}
PLAUSIBLE = {name: f"CASE WHEN {name} BETWEEN 0 AND {limit} THEN {name} END" for name, limit in _LARGEST.items()}
PLAUSIBLE_TOTALS = {
    name: f"total({name}) FILTER (WHERE {name} > 0 AND {name} <= {limit})" for name, limit in _LARGEST.items()
}


def to_row(record: JobRecord) -> tuple[Any, ...]:
    """Return a record's values in the order of `COLUMNS`."""
    return (
        record.key,
        record.idempotency_key,
        record.parent,
        record.parent_task_id,
        str(record.status),
        record.task_id,
        record.created_at,
        record.submitted_at,
        record.accepted_at,
        record.finished_at,
        record.server_seconds,
        record.submits,
        record.ambiguous_submits,
        record.cost,
        record.credits,
        json.dumps(record.paths) if record.paths else None,
        record.error.encode("utf-8", "backslashreplace").decode(),  # may quote a path whose bytes are not text
        json.dumps(record.previous_task_ids) if record.previous_task_ids else None,
        record.previous_cost,
        json.dumps(asdict(record.partial_download)) if record.partial_download else None,
        json.dumps(record.sent_references) if record.sent_references else None,
        record.webhook,
        json.dumps([asdict(video) for video in record.videos]) if record.videos else None,
        record.name,
    )


def from_row(row: Sequence[Any], folder: str = "") -> JobRecord:
    """Return the record of a row: the values of `COLUMNS`, then the request. `folder` is put before the file names.

    Raise `ValueError` for a row that no client has written: values of other types, or numbers that are not finite.
    """
    facts = dict(zip((*COLUMNS, "request"), row, strict=True))
    for name, is_valid in _IS_VALID.items():
        if not is_valid(facts[name]):
            raise ValueError(f"a job has the {name} {str(facts[name])[:40]!r}")
    facts["status"] = JobStatus(facts["status"])
    for name in ("paths", "previous_task_ids", "sent_references"):
        facts[name] = _parse_names(facts[name])
    if folder:
        facts["paths"] = tuple(folder + encodable(name) for name in facts["paths"])
    # A ledger of an older version may hold figures that cannot be true: they were taken over as the server sent them.
    facts["cost"], facts["credits"] = plausible_usd(facts["cost"]), plausible_credits(facts["credits"])
    facts["previous_cost"] = plausible_usd(facts["previous_cost"]) or 0.0
    facts["server_seconds"] = plausible_seconds(facts["server_seconds"])
    facts["videos"] = _parse_videos(facts["videos"])
    partial_download = facts["partial_download"]
    facts["partial_download"] = _parse_partial_download(partial_download) if partial_download else None
    return JobRecord(**facts)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text of a ledger. Raise `ValueError` if it is invalid or nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{text[:40]!r}... is nested too deep") from None


def _parse_names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = parse_json(text)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{text[:40]!r} is not a list of names")
    return tuple(names)


def _parse_partial_download(text: str) -> PartialDownload:
    fields = parse_json(text)
    try:
        found = PartialDownload(**fields)
    except TypeError:  # not an object, or one with other fields
        raise ValueError(f"{text[:40]!r} is not a partial download") from None
    is_valid = all(_is_count(number) for number in (found.index, found.offset, found.total or 0))
    if not (is_valid and isinstance(found.validator, str) and isinstance(found.etag, str)):
        raise ValueError(f"{text[:40]!r} is not a partial download")
    return found


def _parse_videos(text: str | None) -> tuple[Video, ...]:
    if text is None:
        return ()
    try:
        videos = tuple(Video(**fields) for fields in parse_json(text))
    except TypeError:  # not a list of objects, or one with other fields
        raise ValueError(f"{text[:40]!r} is not a list of videos") from None
    if not all(_is_text(video.url) and _is_number_or_none(video.expires_at) for video in videos):
        raise ValueError(f"{text[:40]!r} is not a list of videos")
    return videos


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)


def _is_number_or_none(value: object) -> bool:
    return value is None or _is_number(value)


# What each column holds. SQLite stores any type in any column, and a ledger may come from somebody else.
_IS_VALID: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("key", "idempotency_key", "status", "error", "request"), _is_text),
    **dict.fromkeys(("parent", "parent_task_id", "task_id", "webhook", "name"), _is_text_or_none),
    **dict.fromkeys(("paths", "previous_task_ids", "sent_references", "partial_download", "videos"), _is_text_or_none),
    **dict.fromkeys(("submits", "ambiguous_submits"), _is_count),
    **dict.fromkeys(("created_at", "previous_cost"), _is_number),
    **dict.fromkeys(("submitted_at", "accepted_at", "finished_at"), _is_number_or_none),
    **dict.fromkeys(("server_seconds", "cost", "credits"), _is_number_or_none),
}
