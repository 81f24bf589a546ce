"""`FleetStatistics`: what a fleet is doing at one moment, as its tables say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...jobs.lifecycle import JobStatus
from ...jobs.statistics import LedgerTotals
from ...jobs.store import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .database import PostgresConnection

# The table holds what each change has added, so that no job has to be counted; the leader adds it up now and then.
SELECT_TOTALS = (
    "SELECT status, sum(jobs)::bigint, sum(submits), sum(ambiguous_submits), sum(possibly_paid_twice), sum(cost),"
    " sum(credits) FROM omni_totals WHERE account = %s GROUP BY status"
)
# A leader whose lease has run out leads no longer. Only the database's own clock decides.
_ACCOUNTS = (
    "SELECT a.account, a.server, a.epoch, CASE WHEN a.expires_at > now() THEN a.holder END,"
    " extract(epoch FROM greatest(a.expires_at, now()) - now())::float8, a.state, a.stopped, a.max_cost, f.value"
    f" FROM omni_accounts a LEFT JOIN omni_facts f ON f.account = a.account AND f.name = '{LIMITS}'"
    " WHERE %s::text IS NULL OR a.account = %s ORDER BY a.account"
)
_WORKERS = (
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


async def read_statistics(db: PostgresConnection, account: str | None) -> FleetStatistics:
    """Return what a fleet is doing, with one account or all of them."""
    rows = await (await db.execute(_ACCOUNTS, (account, account))).fetchall()
    accounts = []
    for row in rows:
        totals = totals_from(await (await db.execute(SELECT_TOTALS, (row[0],))).fetchall())
        accounts.append(_account_from(row, totals))
    workers = await (await db.execute(_WORKERS)).fetchall()
    return FleetStatistics(accounts=tuple(accounts), workers=tuple(map(_worker_from, workers)))


def totals_from(rows: Sequence[Sequence[Any]]) -> LedgerTotals:
    """Return the totals of one account from its rows of `SELECT_TOTALS`. Raise `ValueError` if a sum is not finite."""
    by_status = {JobStatus(status): jobs for status, jobs, *_ in rows}
    return LedgerTotals.of(by_status, [sum(row[column] for row in rows) for column in range(2, 7)])


def _account_from(row: Sequence[Any], totals: LedgerTotals) -> AccountStatus:
    """Return the status of an account from its row of `_ACCOUNTS`."""
    account, server, epoch, leader, lease_seconds, state, stopped, max_cost, fact = row
    submits_per_minute, max_in_flight = _limits_from(fact)
    return AccountStatus(
        account=account,
        server=server or "",
        leader=leader,
        epoch=epoch,
        lease_seconds=lease_seconds if leader else 0.0,
        state=state,
        stopped=stopped or "",
        max_cost=max_cost,
        submits_per_minute=submits_per_minute,
        max_in_flight=max_in_flight,
        totals=totals,
    )


def _limits_from(fact: str | None) -> tuple[float | None, int | None]:
    """Return submits per minute and tasks at the same time, as learned; None for what is unknown or no number."""
    try:
        learned = json.loads(fact or "{}")
        per_second, max_in_flight = learned.get("per_second"), learned.get("max_in_flight")
    except (ValueError, AttributeError, RecursionError):  # written by another version
        return None, None
    return (
        round(60 * per_second, 3) if isinstance(per_second, (int, float)) else None,
        max_in_flight if isinstance(max_in_flight, int) else None,
    )


def _worker_from(row: Sequence[Any]) -> WorkerStatus:
    """Return the status of a worker from its row of `_WORKERS`."""
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
