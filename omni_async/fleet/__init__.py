"""Many machines, one account: the same jobs in Postgres, submitted by one elected leader, downloaded by all workers.

::

    async with Fleet("postgresql://...") as fleet:      # adds jobs and waits for them
        await fleet.enqueue({"fox": "a red fox in the snow"})
        path = await fleet.job("fox")

    await FleetWorker("postgresql://...", store="/mnt/clips").run()     # on every machine

Needs the extra `fleet`, and the extra `s3` for clips in an object store. The README of this package says what is
guaranteed, and how to size and operate a fleet.

How to read it: `fleet` and `worker` are the two ends. A worker has a leader for each account (`leader`,
`leader_client`, `job_feed`, `sweeps`), and a fetcher that downloads what the queue gives it (`fetcher`, `fetch_queue`)
into the clip store (`clips`, `destinations`). Connections, tables, rows and the lease are in the package `postgres`.
"""

from __future__ import annotations

from . import postgres as _postgres  # noqa: F401 - first: it says which library is missing
from .clips import clip_store
from .fetch_queue import register
from .fetcher import Fetcher
from .fleet import Fleet
from .fleet_job import FleetJob
from .postgres.database import Database
from .postgres.enqueue import EnqueueResult
from .postgres.reader import DownloadResult, FleetReader
from .postgres.schema import install
from .postgres.statistics import AccountStatus, FleetStatistics, WorkerStatus
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
