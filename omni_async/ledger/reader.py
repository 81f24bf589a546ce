"""A look into a ledger's file from outside, at any time, without disturbing whoever writes it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..jobs.lifecycle import JobStatus
from ..jobs.statistics import LedgerTotals
from . import rows
from .schema import SELECT, cannot_open, from_row, open_to_read

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from types import TracebackType

    from ..jobs.records import JobRecord


LEDGER_NAME = "ledger.db"


class LedgerReader:
    """Reads a ledger: of a folder of clips, or the file itself. Use it with ``with``; blocking, for threads or scripts.

    What it tells is as of each call; a client may be writing meanwhile. Every method raises `LedgerError` where the
    file cannot be read; making one does so too, where there is no ledger or it is not for this program.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.path = path / LEDGER_NAME if path.is_dir() else path
        self._db = open_to_read(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def jobs(self, *statuses: JobStatus | str) -> Iterator[JobRecord]:
        """Give the jobs in the order in which they came, one by one; those of some statuses, if any are named."""
        wanted = [str(JobStatus(status)) for status in statuses]
        where = f" WHERE status IN ({', '.join('?' * len(wanted))})" if wanted else ""
        with self._reading():
            for row in self._db.execute(f"{SELECT}{where} ORDER BY id", wanted):
                yield from_row(row)

    def find(self, key: str) -> JobRecord | None:
        """Give what is recorded under a key."""
        with self._reading():
            return rows.find(self._db, key)

    def find_task(self, task_id: str) -> JobRecord | None:
        """Give the job that a task of the server belongs to, if it is recorded as that job's latest one."""
        with self._reading():
            row = self._db.execute(f"{SELECT} WHERE task_id = ?", (task_id,)).fetchone()
        return from_row(row) if row else None

    def totals(self) -> LedgerTotals:
        """Give the sums over all jobs."""
        with self._reading():
            by_status = dict(self._db.execute("SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status"))
            submits, doubtful, in_doubt, cost, credit = self._db.execute(
                "SELECT total(submits), total(ambiguous_submits), total(ambiguous_submits + (task_id IS NOT NULL) > 1),"
                " total(cost) + total(previous_cost), total(credits) FROM jobs"
            ).fetchone()
        return LedgerTotals(
            jobs=sum(by_status.values()),
            by_status={status: by_status[status] for status in JobStatus if status in by_status},
            submits=int(submits),
            ambiguous_submits=int(doubtful),
            possibly_paid_twice=int(in_doubt),
            cost=round(cost, 6),
            credits=round(credit, 6),
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise cannot_open(self.path, f"malformed: {error}") from error
