"""What is done with the ledger's rows, as plain functions of a connection; who calls them minds the transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs.filenames import candidates
from ..jobs.lifecycle import JobStatus
from ..jobs.spending import Spending, may_be_billed
from ..models.reference_files import UPLOAD_LIFETIME, Upload
from .schema import COLUMNS, SELECT, UNFINISHED, from_row, to_row

if TYPE_CHECKING:
    import sqlite3

    from ..jobs.records import JobRecord


_LATEST = 1000

_INSERT = f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_UPDATE = f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE key = ?"


def insert(db: sqlite3.Connection, record: JobRecord) -> JobRecord | None:
    """Record a new job with its file name, or give the one that stands for the same key or task already."""
    existing = find(db, record.key)
    if existing is None and not record.request and record.task_id is not None:
        row = db.execute(f"{SELECT} WHERE task_id = ?", (record.task_id,)).fetchone()
        existing = from_row(row) if row else None
    if existing is None:
        _write_new(db, record)
        claim_filename(db, record.key, 0)
    return existing


def save(db: sqlite3.Connection, record: JobRecord) -> None:
    """Record how a job stands now."""
    if not db.execute(_UPDATE, (*to_row(record), record.key)).rowcount:
        _write_new(db, record)


def find(db: sqlite3.Connection, key: str) -> JobRecord | None:
    """Give what is recorded under a key."""
    row = db.execute(f"{SELECT} WHERE key = ?", (key,)).fetchone()
    return from_row(row) if row else None


def claim_filename(db: sqlite3.Connection, key: str, index: int) -> str:
    """Give the file name of video number `index` of a key: the same one always, and to no other."""
    for name in candidates(key, index):
        folded = name.casefold()
        db.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", (folded, key, index))
        if db.execute("SELECT key, video FROM files WHERE name = ?", (folded,)).fetchone() == (key, index):
            return f"{name}.mp4"
    raise RuntimeError(f"no file name is free for key {key!r}")  # needs keys made to collide with a hash


def unfinished(db: sqlite3.Connection) -> list[JobRecord]:
    """Give the jobs with something left to do, oldest first."""
    return [from_row(row) for row in db.execute(f"{SELECT} WHERE {UNFINISHED} ORDER BY id")]


def durations(db: sqlite3.Connection) -> list[JobRecord]:
    """Give the latest jobs of which it is known how long the server took, oldest first."""
    rows = db.execute(f"{SELECT} WHERE server_seconds IS NOT NULL ORDER BY id DESC LIMIT {_LATEST}").fetchall()
    return [from_row(row) for row in reversed(rows)]


def find_upload(db: sqlite3.Connection, server: str, digest: str) -> Upload | None:
    """Give the last upload of a content to a server."""
    question = "SELECT url, expires_at FROM uploads WHERE server = ? AND digest = ?"
    row = db.execute(question, (server, digest)).fetchone()
    return Upload(*row) if row else None


def save_upload(db: sqlite3.Connection, server: str, digest: str, upload: Upload) -> None:
    """Remember an upload, and forget those that were dead when this one was made."""
    db.execute("DELETE FROM uploads WHERE expires_at < ?", (upload.expires_at - UPLOAD_LIFETIME,))
    db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", (server, digest, upload.url, upload.expires_at))


def forget_upload(db: sqlite3.Connection, url: str) -> None:
    """Forget where an upload is."""
    db.execute("DELETE FROM uploads WHERE url = ?", (url,))


def set_fact(db: sqlite3.Connection, name: str, value: str) -> None:
    """Keep a fact under a name, in place of the one before."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def get_fact(db: sqlite3.Connection, name: str) -> str | None:
    """Give the fact that was kept under a name."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def spending(db: sqlite3.Connection) -> Spending:
    """Give what all jobs have cost so far."""
    whole = Spending()
    for status, task_id, is_open, jobs, paid, bills in db.execute(
        "SELECT status, max(task_id), cost IS NULL, count(*), total(cost) + total(previous_cost),"
        " total(ifnull(cost, 0) + previous_cost > 0) FROM jobs GROUP BY status, task_id IS NULL, cost IS NULL"
    ):
        taken = jobs if is_open and may_be_billed(JobStatus(status), task_id) else 0
        whole += Spending(paid, int(bills), taken)
    return whole


def _write_new(db: sqlite3.Connection, record: JobRecord) -> None:
    job = db.execute(_INSERT, to_row(record)).lastrowid
    if record.request:
        db.execute("INSERT INTO requests VALUES (?, ?)", (job, record.request))
