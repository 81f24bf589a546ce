"""The ledger's file: what stands in it, how a file is known to be a ledger, and how an older one becomes a newer one.

A file is looked at through a read-only connection before anything may write to it: one that is damaged, newer than
this program or no ledger at all is refused as it is.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import LedgerError
from ..jobs.lifecycle import NOT_RESUMABLE, JobStatus
from ..jobs.records import JobRecord, PartialDownload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


APPLICATION_ID = 0x6F6D6E69  # "omni": what makes an SQLite file a ledger

# In words and not as parameters: SQLite uses the index of this condition only where it stands as it is.
UNFINISHED = f"status NOT IN ({', '.join(repr(str(status)) for status in sorted(NOT_RESUMABLE))})"

# Each script makes a ledger of the version before into one of its own; those that are released never change.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,  -- the order in which they came
        key TEXT NOT NULL UNIQUE,
        idempotency_key TEXT NOT NULL,
        parent TEXT,
        parent_task_id TEXT,
        status TEXT NOT NULL,
        task_id TEXT,
        created_at REAL NOT NULL,
        submitted_at REAL,
        accepted_at REAL,
        finished_at REAL,
        took REAL,
        submits INTEGER NOT NULL,
        doubtful INTEGER NOT NULL,
        cost REAL,
        credits REAL,
        paths TEXT,  -- a JSON list
        error TEXT NOT NULL,
        earlier_task_ids TEXT,  -- a JSON list
        earlier_cost REAL NOT NULL,
        part TEXT  -- a JSON object: how far the clip that is on its way has come
    );
    CREATE INDEX jobs_by_task ON jobs (task_id) WHERE task_id IS NOT NULL;
    CREATE INDEX unfinished_jobs ON jobs (id) WHERE status NOT IN ('cancelled', 'completed', 'failed', 'unknown');
    -- Apart from the jobs, because a request may be long and never changes.
    CREATE TABLE requests (job INTEGER PRIMARY KEY REFERENCES jobs (id), request TEXT NOT NULL);
    -- What was learnt of the server, by name.
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    -- Who owns which file, for names without case and ending.
    CREATE TABLE files (name TEXT PRIMARY KEY, key TEXT NOT NULL, video INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE jobs ADD COLUMN sent_as TEXT;  -- a JSON list: what was sent for each local file of the request
    -- Pictures that were brought to a server, by SHA-256 of their content.
    CREATE TABLE uploads (
        server TEXT NOT NULL,
        digest TEXT NOT NULL,
        url TEXT NOT NULL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (server, digest)
    ) WITHOUT ROWID;
    CREATE INDEX uploads_by_end ON uploads (expires_at);
    CREATE INDEX uploads_by_url ON uploads (url);
    """,
    "ALTER TABLE jobs ADD COLUMN webhook TEXT",  # the address that its submits name
    """
    ALTER TABLE jobs RENAME COLUMN took TO server_seconds;
    ALTER TABLE jobs RENAME COLUMN doubtful TO ambiguous_submits;
    ALTER TABLE jobs RENAME COLUMN earlier_task_ids TO previous_task_ids;
    ALTER TABLE jobs RENAME COLUMN earlier_cost TO previous_cost;
    ALTER TABLE jobs RENAME COLUMN sent_as TO sent_references;
    ALTER TABLE jobs RENAME COLUMN part TO partial_download;
    UPDATE jobs SET status = 'timed_out' WHERE status = 'overdue';
    UPDATE jobs SET status = 'download_failed' WHERE status = 'undelivered';
    -- The names in it have changed; limits are learned again within minutes.
    DELETE FROM facts WHERE name = 'limits';
    """,
)

COLUMNS = (
    *("key", "idempotency_key", "parent", "parent_task_id", "status", "task_id", "created_at", "submitted_at"),
    *(
        "accepted_at",
        "finished_at",
        "server_seconds",
        "submits",
        "ambiguous_submits",
        "cost",
        "credits",
        "paths",
        "error",
    ),
    *("previous_task_ids", "previous_cost", "partial_download", "sent_references", "webhook"),
)

SELECT = f"SELECT {', '.join(COLUMNS)}, COALESCE(request, '') FROM jobs LEFT JOIN requests ON job = id"


def to_row(record: JobRecord) -> tuple[Any, ...]:
    """Give a record's values in the order of `COLUMNS`."""
    return (
        record.key,
        record.idempotency_key,
        record.parent,
        record.parent_task_id,
        str(record.status),
        record.task_id,
        record.created_at,
        record.submitted_at,
        record.accepted_at,
        record.finished_at,
        record.server_seconds,
        record.submits,
        record.ambiguous_submits,
        record.cost,
        record.credits,
        json.dumps(record.paths) if record.paths else None,
        record.error.encode("utf-8", "backslashreplace").decode(),  # may quote a path, whose bytes may be no text
        json.dumps(record.previous_task_ids) if record.previous_task_ids else None,
        record.previous_cost,
        json.dumps(asdict(record.partial_download)) if record.partial_download else None,
        json.dumps(record.sent_references) if record.sent_references else None,
        record.webhook,
    )


def from_row(row: Sequence[Any]) -> JobRecord:
    """Give the record of a row that `SELECT` gave. Raises `ValueError` for one that no ledger has written."""
    facts = dict(zip((*COLUMNS, "request"), row, strict=True))
    facts["status"] = JobStatus(facts["status"])
    facts["paths"] = tuple(json.loads(facts["paths"] or "[]"))
    facts["previous_task_ids"] = tuple(json.loads(facts["previous_task_ids"] or "[]"))
    facts["sent_references"] = tuple(json.loads(facts["sent_references"] or "[]"))
    facts["partial_download"] = (
        PartialDownload(**json.loads(facts["partial_download"])) if facts["partial_download"] else None
    )
    return JobRecord(**facts)


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a ledger, or make one; it is brought up to date. Raises `LedgerError`.

    Whoever calls this has locked it. Every commit is on the disk when it returns (`synchronous=FULL`): an intent that
    is lost may be a clip that is paid twice.
    """
    try:
        version = _version_of_file(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _set_up(db, path, version)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise cannot_open(path, str(error)) from error
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading; whoever writes it is not disturbed. Raises `LedgerError`."""
    if not path.is_file():
        raise LedgerError(f"there is no ledger {path}: no job has been recorded there")
    try:
        db = _connect_to_read(path)
        try:
            version = check_version(db, path)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise cannot_open(path, str(error)) from error
    if version < len(MIGRATIONS):
        db.close()
        raise LedgerError(
            f"the ledger {path} was written by an older omni_async (version {version}, known here: {len(MIGRATIONS)}); "
            "open it once with a client to bring it up to date"
            if version
            else f"there is no ledger {path}: no job has been recorded there"
        )
    return db


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """Give the version of a ledger, 0 for an empty file. Raises `LedgerError` where it is not for this program."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is a database of another program, not a ledger; it was left as it is. {_REMEDY}")
    if version == 0:
        raise cannot_open(path, "malformed: it has no version")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger {path} was written by a newer omni_async (version {version}, known here: {len(MIGRATIONS)}); "
            f"it was left as it is. Update omni_async, or name another ledger"
        )
    return int(version)


def cannot_open(path: Path, reason: str) -> LedgerError:
    """Give the error for a ledger that SQLite cannot read."""
    if "not a database" in reason or "malformed" in reason:
        return LedgerError(f"{path} is no ledger, or is damaged ({reason}); it was left as it is. {_REMEDY}")
    return LedgerError(f"the ledger {path} cannot be opened: {reason}. Choose a folder that can be written, or a disk "
                       "that is not a network's")  # fmt: skip


_REMEDY = "Move it away, or name another folder or ledger"


def _version_of_file(path: Path) -> int:
    """Look at a file before anything writes to it; 0 if there is none yet."""
    if path.is_dir():
        raise cannot_open(path, "it is a folder")
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return 0
    if size < _SMALLEST:  # SQLite would take it for empty
        raise cannot_open(path, "not a database")
    # The lock keeps writers out; where no log is left either, SQLite need not lay any file beside this one to read it.
    with closing(_connect(path, "mode=ro" if _has_log(path) else _ALONE)) as db:
        version = check_version(db, path)
        # Not the quick check: an index that lies would have a key bought twice.
        (fault,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if fault != "ok":
            raise cannot_open(path, f"malformed: {fault}")
        return version


_ALONE = "mode=ro&immutable=1"
_SMALLEST = 512  # bytes of the smallest page that a database can have


def _connect_to_read(path: Path) -> sqlite3.Connection:
    db = _connect(path, "mode=ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        # In a folder that cannot be written SQLite has no place for its index of the log; without a log it needs none.
        if _has_log(path):
            raise
        db = _connect(path, _ALONE)
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path, how: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _has_log(path: Path) -> bool:
    """Tell whether something stands in the write-ahead log that may not be in the file yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _set_up(db: sqlite3.Connection, path: Path, version: int) -> None:
    db.execute("PRAGMA busy_timeout=5000")
    (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise cannot_open(path, f"its file system has no shared memory for a write-ahead log ({mode})")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA fullfsync=1")  # on macOS plain fsync stops at the drive's cache
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number}; COMMIT;"
        )
