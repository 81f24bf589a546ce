"""The rows of the table: one for each clip, with the same columns of the same types. Pure.

The types matter: readers take them from the first rows and fail at a later row that differs. A column without any value
is left out.
"""

from __future__ import annotations

import json
from math import isfinite
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from omni_async import JobRecord

Row: TypeAlias = dict[str, Any]

# Columns whose names mean something else to the library: the video itself, and what it makes of folders.
_RENAMED = {"video": "reference_video", "images": "reference_images", "label": "label_", "file_name": "file_name_"}

# Fields of a request that are no columns of their own, or are written in another form.
_SPECIAL = {"prompt", "model", "extra", "images", "image_urls", "video", "video_urls"}

_LAST = ("seconds", "server_seconds", "cost", "task_id", "key", "parent", "status", "created_at", "finished_at")


def rows_of(record: JobRecord, clips: Sequence[tuple[str, float | None]]) -> list[Row]:
    """Return a row for each clip of a job: `clips` are their file names and lengths in seconds.

    The cost of a job with several clips is divided among them, so that sums are right.
    """
    cost = record.total_cost / len(clips) if record.cost is not None or record.previous_cost else None
    request = _request_of(record)
    fields = _request_fields(request)
    return [
        {
            "file_name": name,
            "prompt": request.get("prompt") or "",
            "model": record.model,
            **fields,
            "seconds": seconds,
            "server_seconds": record.server_seconds,
            "cost": cost,
            "task_id": record.task_id or "",
            "key": record.key,
            "parent": record.parent or "",
            "status": str(record.status),
            "created_at": record.created_at,
            "finished_at": record.finished_at,
        }
        for name, seconds in clips
    ]


def table(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the same columns in the same order, each of one type; empty columns are left out."""
    given = dict.fromkeys(name for row in rows for name in row)
    names = [*(name for name in given if name not in _LAST), *(name for name in _LAST if name in given)]
    columns = {name: _one_type([row.get(name) for row in rows]) for name in names}
    kept = [name for name in names if any(value not in {None, ""} for value in columns[name])]
    return [{name: columns[name][number] for name in kept} for number in range(len(rows))]


def _request_of(record: JobRecord) -> Row:
    """Return the fields of a recorded request. Those of other versions or people: as far as possible."""
    try:
        request = json.loads(record.request or "{}", parse_float=_finite, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return request if isinstance(request, dict) else {}


def _finite(text: str) -> float | None:
    """Return a number; None for one that JSON cannot hold once it was read, such as 1e999."""
    number = float(text)
    return number if isfinite(number) else None


def _request_fields(request: Row) -> Row:
    """Return the fields of a request beside prompt and model; those in `extra`, such as a seed, are like the others."""
    fields = {name: value for name, value in request.items() if name not in _SPECIAL}
    images = [*_listed(request.get("images")), *_listed(request.get("image_urls"))]
    videos = [*_listed(request.get("video")), *_listed(request.get("video_urls"))]
    fields |= {"reference_images": _references(images), "reference_video": _references(videos)}
    extra = request.get("extra")
    others = extra.items() if isinstance(extra, dict) else ()
    return {**fields, **{_column(str(name), fields): value for name, value in others}}


def _listed(value: object) -> list[str]:
    """Return references as texts: those of a list, or a single one."""
    return [str(each) for each in (value if isinstance(value, list) else [value]) if each]


def _column(name: str, taken: Row) -> str:
    """Return the name of the column for an extra field: not one that the library or the table uses otherwise."""
    is_used = name in taken or name in {*_LAST, "prompt", "model"} or name.endswith(("file_name", "file_names"))
    return f"{_RENAMED.get(name, name)}_" if is_used and name not in _RENAMED else _RENAMED.get(name, name)


def _references(references: Iterable[str]) -> str:
    """Return references as one text: file names without their folders, which are of this machine only, and URLs."""
    return " ".join(map(_reference, references))


def _reference(text: str) -> str:
    if text.startswith("data:"):
        return text.partition(",")[0]
    return text if "://" in text else PurePath(text).name


def _is_number(value: object) -> bool:
    """Return whether a value is a number that a reader can hold in 64 bits."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _one_type(values: list[Any]) -> list[Any]:
    """Return values that are all text, all numbers, or all booleans; None stands for a missing number."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known) and known:
        return values
    if all(_is_number(value) for value in known):
        is_whole = all(isinstance(value, int) for value in known)
        return [value if value is None or is_whole else float(value) for value in values]
    return ["" if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
