"""The SQL statements on the rows of a ledger, as plain functions of a connection. Used by `SqliteJobStore`.

The caller is responsible for the transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs.filenames import NOT_OURS, claim, claimed_name
from ..jobs.lifecycle import JobStatus
from ..jobs.spending import Spending, may_be_billed
from ..jobs.store import RecordPage, merge_accepted
from ..models.reference_files import UPLOAD_LIFETIME, Upload
from .row_format import COLUMNS, PLAUSIBLE, from_row, to_row
from .schema import SELECT, SELECT_WITH_ID, UNFINISHED

if TYPE_CHECKING:
    import sqlite3

    from ..jobs.records import JobRecord


# Durations read when a client opens. The estimator keeps the last 300 of each model (`polling/durations.py`), so this
# covers three models used alike. At half, rarely used models start with fewer; at double, most are read and dropped.
_RECENT_DURATIONS = 1000

_INSERT = f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_UPDATE = f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE key = ?"
_UPDATE_SUBMITTING = f"{_UPDATE} AND status = '{JobStatus.SUBMITTING}' AND task_id IS NULL AND idempotency_key = ?"


def insert(db: sqlite3.Connection, record: JobRecord) -> JobRecord | None:
    """Record a new job and its file name, or return the job that has the same key or task already."""
    existing = find(db, record.key)
    if existing is None and not record.request and record.task_id is not None:
        row = db.execute(f"{SELECT} WHERE task_id = ?", (record.task_id,)).fetchone()
        existing = from_row(row) if row else None
    if existing is None:
        _write_new(db, record)
        claim_filename(db, record.key, 0)
    return existing


def save(db: sqlite3.Connection, record: JobRecord) -> None:
    """Record a job's present state."""
    if not db.execute(_UPDATE, (*to_row(record), record.key)).rowcount:
        _write_new(db, record)


def record_accepted(db: sqlite3.Connection, record: JobRecord) -> None:
    """Record that the server accepted a job, whatever its row says by now."""
    # As `merge_accepted` decides for a row that is as this client has left it: all but a few are.
    if db.execute(_UPDATE_SUBMITTING, (*to_row(record), record.key, record.idempotency_key)).rowcount:
        return
    stored = find(db, record.key)
    save(db, record if stored is None else merge_accepted(stored, record))


def find(db: sqlite3.Connection, key: str) -> JobRecord | None:
    """Return the record of a key."""
    row = db.execute(f"{SELECT} WHERE key = ?", (key,)).fetchone()
    return from_row(row) if row else None


def claim_filename(db: sqlite3.Connection, key: str, index: int, taken: str = "") -> str:
    """Return the file name of video number `index` of a key: always the same name, and no other key's.

    `taken` is the previous name, under which somebody else's file was found: it is never used again.
    """
    if taken:
        update = "UPDATE files SET key = ?, video = ? WHERE (name, key, video) = (?, ?, ?)"
        db.execute(update, (*NOT_OURS, claimed_name(taken), key, index))

    def owner_of(name: str) -> tuple[str, int]:
        db.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", (name, key, index))
        owner: tuple[str, int] = db.execute("SELECT key, video FROM files WHERE name = ?", (name,)).fetchone()
        return owner

    row = db.execute("SELECT name FROM jobs WHERE key = ?", (key,)).fetchone()
    return claim(key, index, owner_of, name=row[0] if row else None)


def unfinished(db: sqlite3.Connection, after: int, limit: int) -> RecordPage:
    """Return the next unfinished jobs whose row id is above `after`, oldest first."""
    rows = db.execute(f"{SELECT_WITH_ID} WHERE {UNFINISHED} AND id > ? ORDER BY id LIMIT ?", (after, limit)).fetchall()
    records = [from_row(row[1:]) for row in rows]
    return RecordPage(records, rows[-1][0] if len(rows) == limit else None)


def durations(db: sqlite3.Connection) -> list[JobRecord]:
    """Return the latest jobs whose duration on the server is known, oldest first."""
    question = f"{SELECT} WHERE server_seconds IS NOT NULL ORDER BY id DESC LIMIT {_RECENT_DURATIONS}"
    return [from_row(row) for row in reversed(db.execute(question).fetchall())]


def find_upload(db: sqlite3.Connection, server: str, digest: str) -> Upload | None:
    """Return the last upload of a content to a server."""
    question = "SELECT url, expires_at FROM uploads WHERE server = ? AND digest = ?"
    row = db.execute(question, (server, digest)).fetchone()
    return Upload(*row) if row else None


def save_upload(db: sqlite3.Connection, server: str, digest: str, upload: Upload) -> None:
    """Record an upload, and delete uploads that had expired when it was made."""
    db.execute("DELETE FROM uploads WHERE expires_at < ?", (upload.expires_at - UPLOAD_LIFETIME,))
    db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", (server, digest, upload.url, upload.expires_at))


def forget_upload(db: sqlite3.Connection, url: str) -> None:
    """Delete an upload by its URL."""
    db.execute("DELETE FROM uploads WHERE url = ?", (url,))


def set_fact(db: sqlite3.Connection, name: str, value: str) -> None:
    """Record a fact under a name, replacing the previous one."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def get_fact(db: sqlite3.Connection, name: str) -> str | None:
    """Return the fact of a name."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def spending(db: sqlite3.Connection) -> Spending:
    """Return what all jobs have cost so far."""
    total = Spending()
    cost, previous = PLAUSIBLE["cost"], PLAUSIBLE["previous_cost"]
    for status, task_id, is_unpriced, jobs, paid, priced in db.execute(
        f"SELECT status, max(task_id), cost IS NULL, count(*), total(cost) + total(previous_cost),"
        f" total(ifnull(cost, 0) + ifnull(previous_cost, 0) > 0)"
        f" FROM (SELECT status, task_id, {cost} AS cost, {previous} AS previous_cost FROM jobs)"
        f" GROUP BY status, task_id IS NULL, cost IS NULL"
    ):
        unpriced = jobs if is_unpriced and may_be_billed(JobStatus(status), task_id) else 0
        total += Spending(paid, int(priced), unpriced)
    return total


def _write_new(db: sqlite3.Connection, record: JobRecord) -> None:
    job = db.execute(_INSERT, to_row(record)).lastrowid
    if record.request:
        db.execute("INSERT INTO requests VALUES (?, ?)", (job, record.request))
