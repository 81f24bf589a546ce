"""Sums over jobs: of one client's life, and of a whole ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lifecycle import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums over a client's life so far, as a snapshot.

    Jobs: `waiting` (recorded, not accepted yet), `in_flight` (accepted, not finished on the server), `downloading`,
    `done`, `failed`, `stopped` (unknown, timed_out, download_failed, cancelled); each key counts once. Work: `submits`
    (POSTs), `refused` (of them answered with 429), `doubtful` (of them with unclear outcome), `checks`, `bytes` (of
    clips received). `cost` in USD and `credits` as the server named them. `submits_per_minute` and `at_once` are the
    limits found (a rate, and jobs in flight), None until there is one. `line_stopped` says why no submit leaves any
    more, "" while they do.
    """

    waiting: int = 0
    in_flight: int = 0
    downloading: int = 0
    completed: int = 0
    failed: int = 0
    unresolved: int = 0
    submits: int = 0
    rate_limited: int = 0
    ambiguous_submits: int = 0
    checks: int = 0
    bytes_downloaded: int = 0
    cost: float = 0.0
    credits: float = 0.0
    learned_submits_per_minute: float | None = None
    learned_max_in_flight: int | None = None
    stop_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """Sums over all jobs of a ledger.

    `by_status` counts jobs, `submits` POSTs, `doubtful` those of them whose outcome stayed unclear, and
    `possibly_paid_twice` the jobs of which `JobRecord.may_be_paid_twice` is true. `cost` in USD and `credits` as the
    server named them.
    """

    jobs: int
    by_status: dict[JobStatus, int]
    submits: int
    ambiguous_submits: int
    possibly_paid_twice: int
    cost: float
    credits: float
