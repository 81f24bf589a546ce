"""The format of a job's row: which columns there are, and how a `JobRecord` becomes a row and back.

Used by the SQL statements of this package. It imports no database, so that another SQL store can use the same format.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..jobs.clip_paths import encodable
from ..jobs.lifecycle import JobStatus
from ..jobs.records import JobRecord, PartialDownload

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
)


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
    )


def from_row(row: Sequence[Any], folder: str = "") -> JobRecord:
    """Return the record of a row: the values of `COLUMNS`, then the request. `folder` is put before the file names.

    Raise `ValueError` for a row that no ledger has written.
    """
    facts = dict(zip((*COLUMNS, "request"), row, strict=True))
    facts["status"] = JobStatus(facts["status"])
    for name in ("paths", "previous_task_ids", "sent_references"):
        facts[name] = tuple(json.loads(facts[name] or "[]"))
    if folder:
        facts["paths"] = tuple(folder + encodable(name) for name in facts["paths"])
    partial_download = facts["partial_download"]
    facts["partial_download"] = PartialDownload(**json.loads(partial_download)) if partial_download else None
    return JobRecord(**facts)
