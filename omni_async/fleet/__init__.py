"""Many machines, one account: the same jobs in Postgres, submitted by one elected leader, downloaded by all workers.

::

    async with Fleet("postgresql://...") as fleet:      # adds jobs and waits for them
        await fleet.enqueue({"fox": "a red fox in the snow"})
        path = await fleet.job("fox")

    await FleetWorker("postgresql://...", store="/mnt/clips").run()     # on every machine

Needs the extra `fleet`, and the extra `s3` for clips in an object store. The README of this package says what is
guaranteed, and how to size and operate a fleet.
"""

from __future__ import annotations

try:
    import procrastinate as _procrastinate  # noqa: F401 - only to say what is missing
    import psycopg as _psycopg  # noqa: F401
    import psycopg_pool as _psycopg_pool  # noqa: F401
except ImportError as _missing:
    raise ModuleNotFoundError(
        f"a fleet needs procrastinate and psycopg: pip install 'omni-async[fleet]' ({_missing})", name=_missing.name
    ) from _missing

from .clips import clip_store
from .database import Database
from .enqueue import EnqueueResult
from .fetcher import Fetcher
from .fetches import register
from .fleet import Fleet, install
from .reader import DownloadResult, FleetReader
from .state import AccountStatus, FleetJob, FleetStatistics, WorkerStatus
from .worker import FleetWorker, WorkerStatistics

__all__ = [
    "AccountStatus",
    "Database",
    "DownloadResult",
    "EnqueueResult",
    "Fetcher",
    "Fleet",
    "FleetJob",
    "FleetReader",
    "FleetStatistics",
    "FleetWorker",
    "WorkerStatistics",
    "WorkerStatus",
    "clip_store",
    "install",
    "register",
]
