"""Reads a fleet at any time: `FleetReader` its jobs, as `LedgerReader` those of a folder, and what a fleet is doing.

Nothing here writes, and no transaction is held open while the caller works on what was read.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

import psycopg

from ..jobs.lifecycle import JobStatus
from ..jobs.statistics import LedgerTotals
from ..jobs.store import OUTPUT_DIR
from ..ledger.row_format import COLUMNS, from_row
from .database import Database, describe, statement
from .schema import version_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from ..jobs.records import JobRecord

DEFAULT_ACCOUNT = "default"

# Rows that are read at a time. Each page is a statement of its own, so that neither a transaction nor a server-side
# cursor stays open between them: behind a pooler neither could. At half, twice the round trips; at double, twice the
# memory (a row has about 1 KB). Chosen, not measured.
_PAGE = 1000

# The request by a subquery: with a join, the planner may read all requests for each page.
SELECT = (
    f"SELECT {', '.join(f'j.{name}' for name in COLUMNS)},"
    " coalesce((SELECT request FROM omni_requests WHERE job = j.id), '') FROM omni_jobs j"
)
SELECT_OUTPUT_DIR = "SELECT value FROM omni_facts WHERE account = %s AND name = %s"


def as_database(database: Database | str | None) -> Database:
    """Return a database from its URL, by default that of the environment variable OMNI_DATABASE_URL.

    OMNI_DIRECT_DATABASE_URL leads past a pooler, for notifications. Raise `ValueError` for what cannot be one.
    """
    if isinstance(database, Database):
        return database
    url = database or os.environ.get("OMNI_DATABASE_URL", "").strip()
    if not url:
        raise ValueError("there is no database: pass its URL, or set OMNI_DATABASE_URL=postgresql://...")
    return Database(url, direct_url=os.environ.get("OMNI_DIRECT_DATABASE_URL", "").strip() or None)


def output_dir_from(fact: Sequence[Any] | None) -> str | None:
    """Return the folder or the address of the clips from the row of `SELECT_OUTPUT_DIR`."""
    folder = json.loads(fact[0]) if fact else None
    return folder if isinstance(folder, str) else None


class FleetReader:
    """Reads the jobs of one account of a fleet. It blocks: use it in scripts, or in a thread.

    It has the methods of `LedgerReader`, so that whatever reads a folder's ledger reads a fleet as well::

        with FleetReader(os.environ["OMNI_DATABASE_URL"]) as reader:
            print(reader.totals().cost)
            gallery.write(reader, folder=Path("/mnt/clips"))

    `JobRecord.paths` are absolute paths in the folder of the clips, or URLs in their object store. Creating a reader
    raises `LedgerError` if there is no such fleet, and so does every method.
    """

    def __init__(self, database: Database | str | None = None, account: str = DEFAULT_ACCOUNT) -> None:
        self._database = as_database(database)
        self._account = account
        with self._reading():
            self._db = self._database.connect_blocking("reader")
        try:
            self._check()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def jobs(self, *statuses: JobStatus | str) -> Iterator[JobRecord]:
        """Yield the jobs in the order in which they came, one by one; if statuses are given, only those jobs.

        Raise `ValueError` for an unknown status.
        """
        folder = self._folder()
        for page in self.pages(*statuses, folder=folder):
            yield from page

    def pages(self, *statuses: JobStatus | str, folder: str = "") -> Iterator[list[JobRecord]]:
        """Yield the same, page by page. `folder` is put before the names of the clips."""
        wanted = [repr(str(JobStatus(status))) for status in statuses]
        condition = f" AND status IN ({', '.join(wanted)})" if wanted else ""
        columns = SELECT.replace("SELECT", "SELECT j.id,", 1)
        # By ranges of ids, because each is read by the primary key whatever the planner knows of the table. Without
        # statistics (it was filled a moment ago), it would sort all rows for each page of a `LIMIT`.
        question = f"{columns} WHERE j.account = %s AND j.id > %s AND j.id <= %s{condition} ORDER BY j.id"
        with self._reading():
            [(first, last)] = self._db.execute(
                statement(f"SELECT min(id), max(id) FROM omni_jobs WHERE account = %s{condition}"), (self._account,)
            ).fetchall()
        for after in range(first - 1, last, _PAGE) if first is not None else ():
            with self._reading():
                rows = self._db.execute(statement(question), (self._account, after, after + _PAGE)).fetchall()
                records = [from_row(row[1:], folder) for row in rows]
            if records:
                yield records

    def find(self, key: str) -> JobRecord | None:
        """Return the record of a key; None if there is none."""
        return self._find("key", key)

    def find_task(self, task_id: str) -> JobRecord | None:
        """Return the job whose latest task this is; None if there is none."""
        return self._find("task_id", task_id)

    def totals(self) -> LedgerTotals:
        """Return the sums over all jobs."""
        with self._reading():
            return totals_from(self._db.execute(SELECT_TOTALS, (self._account,)).fetchall())

    @property
    def output_dir(self) -> str | None:
        """The folder of the clips, or the address of their object store; None before any worker."""
        with self._reading():
            return output_dir_from(self._db.execute(SELECT_OUTPUT_DIR, (self._account, OUTPUT_DIR)).fetchone())

    def _check(self) -> None:
        """Raise `LedgerError` unless the tables are those of this version."""
        with self._reading():
            [(is_there,)] = self._db.execute("SELECT to_regclass('omni_schema') IS NOT NULL").fetchall()
            [(version,)] = self._db.execute("SELECT max(version) FROM omni_schema") if is_there else [(0,)]
            if (wrong := version_error(version or 0, self._database)) is not None:
                raise wrong

    def _find(self, column: str, value: str) -> JobRecord | None:
        with self._reading():
            question = f"{SELECT} WHERE j.account = %s AND j.{column} = %s LIMIT 1"
            row = self._db.execute(question, (self._account, value)).fetchone()
            return from_row(row, self._folder()) if row else None

    def _folder(self) -> str:
        """Return what is put before the name of a clip; "" before any worker."""
        folder = self.output_dir
        return "" if folder is None else with_separator(folder)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, ValueError) as error:
            raise describe(error, self._database) from error


def with_separator(folder: str) -> str:
    """Return a folder or the address of an object store with what separates it from a name."""
    return f"{folder.rstrip('/')}/" if "://" in folder else os.path.join(folder, "")  # noqa: PTH118 - a prefix


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


def totals_from(rows: Iterable[Sequence[Any]]) -> LedgerTotals:
    """Return the totals of one account from its rows of `SELECT_TOTALS`. Raise `ValueError` if a sum is not finite."""
    by_status: Counter[JobStatus] = Counter()
    sums = [0.0] * 5
    for status, jobs, *amounts in rows:
        by_status[JobStatus(status)] += jobs
        sums = [total + float(amount) for total, amount in zip(sums, amounts, strict=True)]
    if not all(map(isfinite, sums)):
        raise ValueError("a sum over its jobs is not finite")
    submits, ambiguous, paid_twice, cost, credit = sums
    return LedgerTotals(
        jobs=sum(by_status.values()),
        by_status={status: by_status[status] for status in JobStatus if by_status[status]},
        submits=int(submits),
        ambiguous_submits=int(ambiguous),
        possibly_paid_twice=int(paid_twice),
        cost=round(cost, 6),
        credits=round(credit, 6),
    )


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
    return LedgerTotals(
        jobs=sum(part.jobs for part in parts),
        by_status={status: by_status[status] for status in JobStatus if by_status[status]},
        submits=sum(part.submits for part in parts),
        ambiguous_submits=sum(part.ambiguous_submits for part in parts),
        possibly_paid_twice=sum(part.possibly_paid_twice for part in parts),
        cost=round(sum(part.cost for part in parts), 6),
        credits=round(sum(part.credits for part in parts), 6),
    )
