"""Ledgers that are open, and records to put into them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from omni_async.jobs.records import JobRecord
from omni_async.ledger import SqliteJobStore
from omni_async.ledger.open_files import OpenFiles
from omni_async.ledger.schema import open_to_write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from omni_async.jobs.store import JobStore
    from omni_async.ledger.sqlite import _Operation

    Opener: TypeAlias = Callable[[Path], AbstractAsyncContextManager[SqliteJobStore]]

_T = TypeVar("_T")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteJobStore]:
    """Open a ledger for this block."""
    ledger = SqliteJobStore(path)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


class InlineJobStore(SqliteJobStore):
    """A ledger in a file, without its thread: each change is committed at the call. For virtual time."""

    async def open(self) -> None:
        """Open it, or make it, without a lock."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = open_to_write(self.path)
        self._files = OpenFiles(self.path)

    def _add(self, operation: _Operation[_T]) -> _Operation[_T]:
        operation.group = group = type(self._current)()
        group.operations.append(operation)
        self._carry_out(group)
        return operation

    def _call_in_loop(self, callback: Callable[[], None]) -> None:
        callback()

    async def aclose(self) -> None:
        """Close it."""
        self._db.close()


async def unfinished(store: JobStore) -> list[JobRecord]:
    """Return all unfinished jobs of a store, read page by page."""
    found: list[JobRecord] = []
    after: int | None = 0
    while after is not None:
        page = await store.unfinished(after)
        found += page.records
        after = page.after
    return found


def record_of(key: str, **facts: Any) -> JobRecord:
    """Return a record as a submit makes it."""
    usual: dict[str, Any] = {"request": f'{{"prompt": "{key}"}}', "idempotency_key": f"omni-{key}", "created_at": 5.0}
    return JobRecord(key=key, **usual | facts)
