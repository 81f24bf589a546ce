"""What programs see of a fleet: `FleetStatistics`, and `FleetJob`, which `Watcher` waits for. Used by `Fleet`."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import psycopg

from ..errors import DownloadError, JobError, JobTimedOut, LedgerError
from ..jobs.failures import error_from_record
from ..jobs.lifecycle import JobStatus
from ..jobs.statistics import LedgerTotals
from ..logs import get_logger
from ..timing import WakeEvent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence
    from pathlib import Path

    from ..jobs.records import JobRecord
    from .database import Database

# Seconds after which jobs are looked at although nothing was notified, and the least between two looks: a busy fleet
# notifies ten times a second. Half asks the database twice as often; double lets a waiter learn of a clip later.
_INTERVAL, _PAUSE = 2.0, 0.1
# Jobs that one statement asks for.
_PAGE = 1000

_log = get_logger(__name__)


EndedJob: TypeAlias = "tuple[JobRecord, tuple[Path | str, ...]]"
"""The record of a job that has ended, and where its clips are."""


class FleetJob:
    """A job of a fleet, from its key. Await it for its clip, any number of times: ``path = await fleet.job(key)``.

    The result is the path of the clip in the folder of the fleet's clips, or its URL in their object store. If there is
    none, the error of the job is raised, as by a `Job`: nothing here cancels or submits it.
    """

    def __init__(self, key: str, wait: Callable[[str], Awaitable[EndedJob]]) -> None:
        self._wait = wait
        self.key: str = key
        self.record: JobRecord | None = None  # as it was when it ended; None before
        self.paths: tuple[Path | str, ...] = ()  # of its clips, or their URLs

    def __repr__(self) -> str:
        return f"<FleetJob {self.key!r} {self.record.status if self.record else 'not awaited yet'}>"

    def __await__(self) -> Generator[Any, None, Path | str]:
        return self._clip().__await__()

    @property
    def status(self) -> JobStatus | None:
        """The status with which it ended; None before."""
        return self.record.status if self.record else None

    @property
    def cost(self) -> float | None:
        """What it has cost in USD; None until it ended, or if the server has not reported it."""
        return self.record.cost if self.record else None

    async def wait(self) -> JobRecord:
        """Wait until the job has ended, whether well or not, and return its record. Raise `LedgerError`."""
        if self.record is None:
            self.record, self.paths = await self._wait(self.key)
        return self.record

    async def _clip(self) -> Path | str:
        record = await self.wait()
        if record.status is JobStatus.COMPLETED and self.paths:
            return self.paths[0]
        facts: dict[str, Any] = {"key": record.key, "task_id": record.task_id}
        if record.status is JobStatus.TIMED_OUT:
            raise JobTimedOut(record.error or f"job {record.key!r} timed out", **facts)
        if record.status is JobStatus.DOWNLOAD_FAILED:
            raise DownloadError(record.error or f"job {record.key!r}: its clip could not be stored")
        raise error_from_record(record)


class Watcher:
    """Waits for jobs to end.

    `find(keys)` returns the records of those keys that exist, `find(keys, only_ended=True)` of jobs that have ended.

    The database says that something has changed in an account (LISTEN), and then the jobs that are waited for are
    looked at. They are also looked at every few seconds: notifications get lost with a connection, and do not pass a
    pooler at all.
    """

    def __init__(self, database: Database, account: str, find: Callable[..., Awaitable[dict[str, JobRecord]]]) -> None:
        self._database = database
        self._account = account
        self._find = find
        self._callbacks: dict[str, list[Callable[[JobRecord | Exception], object]]] = {}
        self._wake = WakeEvent()
        self._failure: Exception | None = None
        self._existing: set[str] = set()  # keys that are waited for and are known to exist
        self._is_away = False  # the database does not answer

    def add(self, key: str, callback: Callable[[JobRecord | Exception], object]) -> None:
        """Call `callback` once with the record of a job when it has ended, or with why that cannot be known."""
        if self._failure is not None:
            raise self._failure
        self._callbacks.setdefault(key, []).append(callback)
        self._wake.set()

    def discard(self, key: str, callback: Callable[[JobRecord | Exception], object]) -> None:
        """Forget a callback that was not called yet."""
        callbacks = self._callbacks.get(key, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            self._callbacks.pop(key, None)
            self._existing.discard(key)

    async def wait(self, key: str) -> JobRecord:
        """Wait until a job has ended, and return its record. Raise `JobError` if there is no such job."""
        future: asyncio.Future[JobRecord | Exception] = asyncio.get_running_loop().create_future()
        self.add(key, future.set_result)
        try:
            result = await future
        finally:
            self.discard(key, future.set_result)
        if isinstance(result, Exception):
            raise result
        return result

    async def run(self) -> None:
        """Look at the jobs that are waited for, until cancelled. An outage of the database is waited out."""
        # Not anyio's group, which cancels again and again: psycopg would complain that its own clean-up is interrupted.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            while True:
                await self._wake.wait(_INTERVAL if self._callbacks else None)
                try:
                    await self._look()
                except Exception as error:  # noqa: BLE001 - those who wait must be told
                    if not isinstance(error, LedgerError) or error.permanent:
                        self.close(error)
                    elif not self._is_away:
                        _log.warning("%s. Those who wait for jobs go on waiting", error)
                        self._is_away = True
                else:
                    self._is_away = False
                await anyio.sleep(_PAUSE)

    def close(self, error: Exception) -> None:
        """Tell everyone who waits, and everyone who comes later, why nothing more will be known."""
        self._failure = error
        while self._callbacks:
            self._call(next(iter(self._callbacks)), error)

    async def _look(self) -> None:
        keys = list(self._callbacks)
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            new = [key for key in page if key not in self._existing]
            found = await self._find(new) if new else {}
            for key in new:
                if key not in found:
                    self._call(key, JobError(f"there is no job {key!r} in this fleet", key=key))
            self._existing |= found.keys() & self._callbacks.keys()
            if old := list(set(page).difference(new)):
                found |= await self._find(old, only_ended=True)
            for key, record in found.items():
                if record.status.is_final:
                    self._call(key, record)

    def _call(self, key: str, result: JobRecord | Exception) -> None:
        self._existing.discard(key)
        for callback in self._callbacks.pop(key, []):
            callback(result)

    async def _listen(self) -> None:
        while True:
            try:
                async with await self._database.connect("listener", direct=True) as connection:
                    await connection.execute("LISTEN omni_jobs")
                    self._wake.set()
                    async for notification in connection.notifies():
                        if notification.payload == self._account:
                            self._wake.set()
            except (psycopg.Error, LedgerError) as error:
                _log.debug("no notifications for the moment: %s", error)
            await anyio.sleep(_INTERVAL)


# What a fleet is doing

# The table holds what each change has added, so that no job has to be counted; the leader adds it up now and then.
SELECT_TOTALS = (
    "SELECT status, sum(jobs)::bigint, sum(submits), sum(ambiguous_submits), sum(possibly_paid_twice), sum(cost),"
    " sum(credits) FROM omni_totals WHERE account = %s GROUP BY status"
)
# A leader whose lease has run out leads no longer. Only the database's own clock decides.
SELECT_ACCOUNTS = (
    "SELECT a.account, a.server, a.epoch, CASE WHEN a.expires_at > now() THEN a.holder END,"
    " extract(epoch FROM greatest(a.expires_at, now()) - now())::float8, a.state, a.stopped, a.max_cost, f.value"
    " FROM omni_accounts a LEFT JOIN omni_facts f ON f.account = a.account AND f.name = 'limits'"
    " WHERE %s::text IS NULL OR a.account = %s ORDER BY a.account"
)
SELECT_WORKERS = (
    "SELECT worker, host, pid, role, version, extract(epoch FROM now() - started_at)::float8,"
    " extract(epoch FROM now() - seen_at)::float8, leads, fetching, fetched, bytes"
    " FROM omni_workers WHERE seen_at > now() - interval '1 minute' ORDER BY worker"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker, as it last reported itself `seen_seconds` ago.

    `leads` are the accounts that it leads, `fetching` the clips that it is downloading now, `fetched` and `bytes` what
    it has downloaded since it started, `seconds` ago.
    """

    worker: str
    host: str
    pid: int
    role: str
    version: str
    seconds: float
    seen_seconds: float
    leads: tuple[str, ...]
    fetching: int
    fetched: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatus:
    """One account. `leader` is the worker that submits its jobs, None if no lease is valid at this moment.

    `epoch` counts leaders, `lease_seconds` is how long the lease lasts if it is not renewed. `state` is running, paused
    or draining; `stopped` says why the leader submits nothing more, "" while it does. The learned limits are None until
    one was met.
    """

    account: str
    server: str
    leader: str | None
    epoch: int
    lease_seconds: float
    state: str
    stopped: str
    max_cost: float | None
    submits_per_minute: float | None
    max_in_flight: int | None
    totals: LedgerTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """What a fleet is doing at one moment: its accounts and its workers."""

    accounts: tuple[AccountStatus, ...]
    workers: tuple[WorkerStatus, ...]

    @property
    def totals(self) -> LedgerTotals:
        """The sums over the jobs of all accounts."""
        return _sum([account.totals for account in self.accounts])


def totals_from(rows: Sequence[Sequence[Any]]) -> LedgerTotals:
    """Return the totals of one account from its rows of `SELECT_TOTALS`. Raise `ValueError` if a sum is not finite."""
    by_status = {JobStatus(status): jobs for status, jobs, *_ in rows}
    return LedgerTotals.of(by_status, [sum(row[column] for row in rows) for column in range(2, 7)])


def account_from(row: Sequence[Any], totals: LedgerTotals) -> AccountStatus:
    """Return the status of an account from its row of `SELECT_ACCOUNTS`."""
    account, server, epoch, leader, lease_seconds, state, stopped, max_cost, fact = row
    try:
        learned = json.loads(fact or "{}")
        per_second, max_in_flight = learned.get("per_second"), learned.get("max_in_flight")
    except (ValueError, AttributeError):  # written by another version
        per_second = max_in_flight = None
    return AccountStatus(
        account=account,
        server=server or "",
        leader=leader,
        epoch=epoch,
        lease_seconds=lease_seconds if leader else 0.0,
        state=state,
        stopped=stopped or "",
        max_cost=max_cost,
        submits_per_minute=None if per_second is None else round(60 * per_second, 3),
        max_in_flight=max_in_flight,
        totals=totals,
    )


def worker_from(row: Sequence[Any]) -> WorkerStatus:
    """Return the status of a worker from its row of `SELECT_WORKERS`."""
    worker, host, pid, role, version, seconds, seen_seconds, leads, fetching, fetched, received = row
    return WorkerStatus(
        worker=worker,
        host=host or "",
        pid=pid or 0,
        role=role or "",
        version=version or "",
        seconds=seconds,
        seen_seconds=max(0.0, seen_seconds),
        leads=tuple(leads or ()),
        fetching=fetching or 0,
        fetched=fetched or 0,
        bytes=received or 0,
    )


def _sum(parts: Sequence[LedgerTotals]) -> LedgerTotals:
    by_status: Counter[JobStatus] = Counter()
    for part in parts:
        by_status.update(part.by_status)
    names = ("submits", "ambiguous_submits", "possibly_paid_twice", "cost", "credits")
    return LedgerTotals.of(by_status, [sum(getattr(part, name) for part in parts) for name in names])
