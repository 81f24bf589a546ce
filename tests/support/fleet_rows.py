"""Statements on the database of a fleet: what a leader or a worker would have written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


async def execute(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows."""
    from omni_async.fleet import Database

    async with await Database(url).connect("test") as connection:
        cursor = await connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def keys(url: str) -> list[str]:
    """Return the keys of all jobs in the order in which they will be submitted."""
    return [row[0] for row in await execute(url, "SELECT key FROM omni_jobs ORDER BY id")]


async def complete(url: str, key: str, *names: str, cost: float = 1.0) -> None:
    """Write that a job is completed, with these files, and tell everyone."""
    await execute(
        url,
        "UPDATE omni_jobs SET status = 'completed', task_id = 'task-' || key, submits = 1, cost = %s, paths = %s,"
        " accepted_at = 1, finished_at = 2 WHERE key = %s",
        *(cost, json.dumps(names), key),
    )
    await execute(url, "SELECT pg_notify('omni_jobs', 'default')")


async def end(url: str, key: str, status: str, error: str = "", task_id: str | None = None) -> None:
    """Write that a job has ended without a clip."""
    await execute(
        url, "UPDATE omni_jobs SET status = %s, error = %s, task_id = %s WHERE key = %s", status, error, task_id, key
    )


async def set_output_dir(url: str, place: Path | str) -> None:
    """Write where the clips are."""
    await execute(
        url,
        "INSERT INTO omni_facts VALUES ('default', 'output_dir', %s)"
        " ON CONFLICT (account, name) DO UPDATE SET value = excluded.value",
        json.dumps(str(place)),
    )
