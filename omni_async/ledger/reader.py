"""`LedgerReader`: reads the file of a ledger at any time, without disturbing the process that writes it.

Used by the command line, the gallery and programs of users. The client uses `SqliteJobStore` instead.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..jobs.lifecycle import JobStatus
from ..jobs.statistics import LedgerTotals
from ..jobs.store import LIMITS, OUTPUT_DIR
from . import rows
from .row_format import PLAUSIBLE_TOTALS, from_row, parse_json
from .schema import SELECT, cannot_open, open_to_read
from .sql_reader import SqlReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..jobs.records import JobRecord


LEDGER_NAME = "ledger.db"  # the file name of a ledger within its folder of clips

# One pass over the rows. A condition costs less than a value that is computed for each row: .33 s for 1,000,000 jobs,
# where three queries with computed values took .51 s.
_TOTALS = (
    "SELECT count(*), count(*) FILTER (WHERE status <> 'completed'), total(submits),"
    " total(ambiguous_submits) FILTER (WHERE ambiguous_submits),"
    " count(*) FILTER (WHERE ambiguous_submits AND ambiguous_submits + (task_id IS NOT NULL) > 1),"
    f" {PLAUSIBLE_TOTALS['cost']} + {PLAUSIBLE_TOTALS['previous_cost']}, {PLAUSIBLE_TOTALS['credits']}"
    " FROM jobs"
)


class LedgerReader(SqlReader):
    """Reads a ledger, given its file or the folder of its clips. It blocks: use it in scripts, or in a thread.

    ::

        with LedgerReader("clips/ledger.db") as reader:
            print(reader.totals().cost)
            for job in reader.jobs("completed"):
                print(job.key, job.paths[0], job.cost)

    Each call reads the present state; a client may be writing meanwhile. Only a ledger that an older version wrote is
    read once, when the reader is made. `JobRecord.paths` are absolute paths here. Creating a reader raises
    `LedgerError` if there is no ledger, or one that this version cannot read. Every method raises it if the file is
    damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.path: Path = path / LEDGER_NAME if os.path.isdir(path) else path  # noqa: PTH112 - never raises
        self._db = open_to_read(self.path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def jobs(self, *statuses: JobStatus | str) -> Iterator[JobRecord]:
        """Yield the jobs in the order in which they came, one by one; if statuses are given, only those jobs.

        Raise `ValueError` for an unknown status.
        """
        wanted = [str(JobStatus(status)) for status in statuses]
        where = f" WHERE status IN ({', '.join('?' * len(wanted))})" if wanted else ""
        with self._reading():
            folder = self._output_dir()
            for row in self._db.execute(f"{SELECT}{where} ORDER BY id", wanted):
                yield from_row(row, folder)

    def totals(self) -> LedgerTotals:
        """Return the sums over all jobs."""
        with self._reading(), self._snapshot():
            jobs, incomplete, *sums = self._db.execute(_TOTALS).fetchone()
            return LedgerTotals.of(self._count_by_status(jobs, incomplete), sums)

    def learned_limits(self) -> dict[str, object]:
        """Return what the last client learned of the account's limits, and of which server; {} if nothing.

        `per_second` is in submits per second, `max_in_flight` in unfinished jobs, `server` is the address of the API.
        """
        with self._reading():
            fact = rows.get_fact(self._db, LIMITS)
        try:
            learned = parse_json(fact or "{}")
        except ValueError:  # written by another version: the limits are learned again
            return {}
        return learned if isinstance(learned, dict) else {}

    @property
    def output_dir(self) -> str | None:
        """The folder of the last client's clips, as that client recorded it; None before any client."""
        with self._reading():
            fact = rows.get_fact(self._db, OUTPUT_DIR)
            folder = parse_json(fact) if fact else None
            if folder is not None and not isinstance(folder, str):
                raise ValueError("the output folder is not text")
            return folder

    def _count_by_status(self, jobs: int, incomplete: int) -> dict[JobStatus, int]:
        """Return the number of jobs of each status. Grouping all of them would take three times as long."""
        if not incomplete:
            return {JobStatus.COMPLETED: jobs}
        others = self._db.execute("SELECT status, count(*) FROM jobs WHERE status <> 'completed' GROUP BY status")
        counts = {JobStatus(status): count for status, count in others}
        return counts | {JobStatus.COMPLETED: jobs - incomplete}

    def _find(self, column: str, value: str) -> JobRecord | None:
        with self._reading():
            row = self._db.execute(f"{SELECT} WHERE {column} = ?", (value,)).fetchone()
            return from_row(row, self._output_dir()) if row else None

    def _output_dir(self) -> str:
        """Return the folder of the last client's clips, with a final separator; before any client, the ledger's."""
        folder = self.output_dir or self.path.absolute().parent
        return os.path.join(folder, "")  # noqa: PTH118 - a string prefix is cheaper than a `Path` for each job

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Let several queries see the same state, although a client may be writing."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise cannot_open(self.path, f"malformed: {error}") from error
