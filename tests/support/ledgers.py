"""A ledger that is open, and a record to put into it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from omni_async.jobs.records import JobRecord
from omni_async.ledger import MemoryJobStore, SqliteJobStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Opener: TypeAlias = Callable[[Path], AbstractAsyncContextManager[SqliteJobStore]]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteJobStore]:
    """Open a ledger for this block."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


def unfinished(store: SqliteJobStore | MemoryJobStore) -> list[JobRecord]:
    """Return all unfinished jobs of a store, read page by page."""
    found: list[JobRecord] = []
    after: int | None = 0
    while after is not None:
        page = store.unfinished(after).wait_here()
        found += page.records
        after = page.after
    return found


def record_of(key: str, **facts: Any) -> JobRecord:
    """Give a record as a submit makes it."""
    usual: dict[str, Any] = {"request": f'{{"prompt": "{key}"}}', "idempotency_key": f"omni-{key}", "created_at": 5.0}
    return JobRecord(key=key, **usual | facts)
