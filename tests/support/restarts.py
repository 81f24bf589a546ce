"""A sandbox, and clients that are opened and left one after another over the same folder; a pytest plugin."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import Job, JobStatus, OmniClient, Polling, Retry
from omni_async.ledger import LedgerReader
from omni_async.sandbox import Sandbox
from tests.support.fakes import left_by_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from omni_async.jobs.records import JobRecord

DAY = 86_400.0  # seconds


class Service:
    """A sandbox, and clients that come and go over one folder."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.folder = folder

    def client(self, **settings: Any) -> OmniClient:
        """Return a client that is not open yet."""
        defaults: dict[str, Any] = {
            "base_url": self.sandbox.base_url,
            "output_dir": self.folder,
            "retry": Retry(wait_initial=0.02, wait_max=0.2, timeout=10),
            "polling": Polling(min_interval=0.05, max_interval=0.2),
        }
        return OmniClient("sk-fine", **{**defaults, **settings})

    def interrupted(self, **settings: Any) -> AbstractAsyncContextManager[OmniClient]:
        """Open a client that is left by an error at the end of the block, as it is on Ctrl-C."""
        return left_by_error(self.client(**settings))

    def row(self, key: str) -> JobRecord:
        """Return the record of a key in the ledger."""
        with closing(LedgerReader(self.folder)) as reader:
            record = reader.find(key)
        assert record is not None, key
        return record

    def set_row(self, key: str, **columns: object) -> None:
        """Change the row of a job that no client has open."""
        with closing(sqlite3.connect(self.folder / "ledger.db", isolation_level=None)) as db:
            for name, value in columns.items():
                db.execute(f"UPDATE jobs SET {name} = ? WHERE key = ?", (value, key))

    @property
    def submits(self) -> int:
        """The number of POSTs that were received."""
        return self.sandbox.record.submits


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Return a quick sandbox with an empty folder."""
    async with Sandbox(prerendered=True, median=0.1, sigma=0.01, seconds=5) as sandbox:
        yield Service(sandbox, tmp_path / "clips")


def set_duration(service: Service, seconds: float = 60.0) -> None:
    """Set the median duration of new tasks."""
    object.__setattr__(service.sandbox.settings, "median", seconds)


async def wait_for_status(job: Job, *wanted: JobStatus) -> None:
    """Wait until a job has one of these statuses."""
    async with asyncio.timeout(10):
        while job.status not in wanted:
            await asyncio.sleep(0.01)
