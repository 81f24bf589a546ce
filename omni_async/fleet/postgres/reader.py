"""Reads the jobs of a fleet at any time: `FleetReader`, as `LedgerReader` those of a folder, and `copy_to_folder`.

Nothing here writes, and no transaction is held open while the caller works on what was read.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import psycopg

from ...errors import LedgerError
from ...jobs.clip_paths import clip_path
from ...jobs.lifecycle import NOT_RESUMABLE, JobStatus
from ...jobs.store import OUTPUT_DIR
from ...ledger import LEDGER_NAME, SqliteJobStore
from ...ledger.row_format import from_row
from ...ledger.sql_reader import SqlReader
from .database import as_database, describe, statement
from .rows import SELECT, SELECT_FACT, SELECT_WITH_ID
from .schema import version_error
from .statistics import SELECT_TOTALS, totals_from

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from ...jobs.records import JobRecord
    from ...jobs.statistics import LedgerTotals
    from .database import Database

DEFAULT_ACCOUNT = "default"

# Rows that are read at a time. Each page is a statement of its own, so that neither a transaction nor a server-side
# cursor stays open between them: behind a pooler neither could. At half, twice the round trips; at double, twice the
# memory (a row has about 1 KB). Chosen, not measured.
_PAGE = 1000


def output_dir_from(fact: str | None) -> str | None:
    """Return the folder or the address of the clips from the fact `OUTPUT_DIR`."""
    folder = json.loads(fact) if fact else None
    return folder if isinstance(folder, str) else None


class FleetReader(SqlReader):
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
        # By ranges of ids, because each is read by the primary key whatever the planner knows of the table. Without
        # statistics (it was filled a moment ago), it would sort all rows for each page of a `LIMIT`.
        question = f"{SELECT_WITH_ID} WHERE account = %s AND id > %s AND id <= %s{condition} ORDER BY id"
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

    def totals(self) -> LedgerTotals:
        """Return the sums over all jobs."""
        with self._reading():
            return totals_from(self._db.execute(SELECT_TOTALS, (self._account,)).fetchall())

    @property
    def output_dir(self) -> str | None:
        """The folder of the clips, or the address of their object store; None before any worker."""
        with self._reading():
            row = self._db.execute(SELECT_FACT, (self._account, OUTPUT_DIR)).fetchone()
            return output_dir_from(row[0] if row else None)

    def _check(self) -> None:
        """Raise `LedgerError` unless the tables are those of this version."""
        with self._reading():
            [(is_there,)] = self._db.execute("SELECT to_regclass('omni_schema') IS NOT NULL").fetchall()
            [(version,)] = self._db.execute("SELECT max(version) FROM omni_schema") if is_there else [(0,)]
            if (wrong := version_error(version or 0, self._database)) is not None:
                raise wrong

    def _find(self, column: str, value: str) -> JobRecord | None:
        with self._reading():
            question = f"{SELECT} WHERE account = %s AND {column} = %s LIMIT 1"
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


# A copy for one machine

# Clips that are copied at a time. As many as a client downloads by default.
_COPIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadResult:
    """What is in a folder after `Fleet.download`. `missing` are clips that are not in the clip store."""

    jobs: int
    clips: int
    missing: tuple[str, ...]


async def copy_to_folder(
    reader: FleetReader,
    folder: Path,
    copy: Callable[[str, Path], Awaitable[bool]],
    on_progress: Callable[[int], object],
) -> DownloadResult:
    """Copy the clips of all jobs that have ended into a folder, and their records into its ledger.

    `copy(name, path)` copies a clip, and returns whether there is one. What the folder already contains is kept. Raise
    `LedgerError`, or `OSError` for the folder or the clip store.
    """
    folder = await anyio.to_thread.run_sync(_make_folder, folder)
    local = SqliteJobStore(folder / LEDGER_NAME)
    await local.open()
    jobs, clips, missing = 0, 0, list[str]()
    try:
        local.set_fact(OUTPUT_DIR, json.dumps(str(folder)))
        pages = reader.pages(*NOT_RESUMABLE)
        while (page := await anyio.to_thread.run_sync(next, pages, None)) is not None:
            copied = await _copy_clips([name for record in page for name in record.paths], folder, copy)
            missing += [name for name, is_there in copied.items() if not is_there]
            jobs, clips = jobs + len(page), clips + sum(copied.values())
            for record in page:
                existing = await local.insert(record)
                if existing is not None and not existing.is_same_work(record):
                    raise LedgerError(
                        f"{folder} holds another job {record.key!r}: choose another folder", permanent=True
                    )
                if existing is not None and existing.status is not record.status:
                    local.save(record)
            on_progress(clips)
    finally:
        await local.aclose()
    return DownloadResult(jobs=jobs, clips=clips, missing=tuple(missing))


def _make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


async def _copy_clips(names: list[str], folder: Path, copy: Callable[[str, Path], Awaitable[bool]]) -> dict[str, bool]:
    """Copy clips, several at the same time, and return which of them were in the store."""
    copied: dict[str, bool] = {}
    slots = anyio.Semaphore(_COPIES)

    async def copy_one(name: str) -> None:
        async with slots:
            is_name = name == PurePath(name).name
            copied[name] = is_name and await copy(name, clip_path(folder, name))

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(copy_one, name)
    return copied
