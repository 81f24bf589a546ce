"""The ledger's file: its tables, its migrations, and how a file is recognised and opened.

Used by `SqliteJobStore` (to write) and `LedgerReader` (to read).

A file is examined through a read-only connection before anything may write to it. A file that is damaged, that a newer
version wrote, or that is not a ledger is rejected and left unchanged.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from ..errors import LedgerError
from ..files import is_regular, open_regular
from ..jobs.lifecycle import NOT_RESUMABLE
from .row_format import COLUMNS
from .schema_check import check_schema

if TYPE_CHECKING:
    from pathlib import Path


APPLICATION_ID = 0x6F6D6E69  # "omni": identifies an SQLite file as a ledger

# Literal text, not parameters: SQLite uses the partial index only where the query contains the index's own condition.
UNFINISHED = f"status NOT IN ({', '.join(repr(str(status)) for status in sorted(NOT_RESUMABLE))})"

_SELECTED = f"{', '.join(COLUMNS)}, COALESCE(request, '') FROM jobs LEFT JOIN requests ON job = id"
SELECT = f"SELECT {_SELECTED}"
SELECT_WITH_ID = f"SELECT id, {_SELECTED}"

# Each script turns a ledger of the previous version into one of its own version. Released scripts never change.
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
    -- Clips are found by name in the output folder: one fact for all rows, so that the folder may be moved.
    INSERT OR REPLACE INTO facts
        SELECT 'output_dir', clip_folder(paths) FROM jobs WHERE clip_folder(paths) IS NOT NULL
        ORDER BY finished_at DESC LIMIT 1;
    UPDATE jobs SET paths = clip_names(paths) WHERE paths IS NOT NULL;
    """,
    "ALTER TABLE jobs ADD COLUMN videos TEXT",  # a JSON list: the links of a finished task, while they are needed
    "ALTER TABLE jobs ADD COLUMN name TEXT",  # the file name that the user wants for the clip
)


_COMPANIONS = ("-wal", "-shm", "-journal")  # SQLite writes them beside the file; readers write the second, too


def open_to_write(path: Path, *, is_clean: bool = False) -> sqlite3.Connection:
    """Open a ledger, or create it, and migrate it to the present version. Raise `LedgerError`.

    The caller holds its lock. Every commit is on disk when it returns (`synchronous=FULL`): after a power cut, a submit
    whose record was lost could be sent and paid again. With `is_clean` (nothing has changed the file since it was
    closed properly), its content is not checked in full (1.3 s for 1,000,000 jobs).
    """
    try:
        _check_files(path, ("", *_COMPANIONS))
        _create(path)
        version = _examine(path, is_clean=is_clean)
        db = _connect(path, "mode=rwc")
        try:
            _set_up(db, path, version)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise cannot_open(path, str(error)) from error
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading, without disturbing the process that writes it. Raise `LedgerError`.

    For a ledger of an older version, this is a migrated copy in memory: only a client may change the file.
    """
    try:
        is_there = path.is_file()
    except OSError as error:  # a name that is too long, a folder of somebody else
        raise cannot_open(path, str(error.strerror or error)) from error
    if not is_there:
        raise _no_ledger(path)
    _check_files(path.resolve())
    try:
        db = _connect_to_read(path)
        try:
            version = check_version(db, path)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise cannot_open(path, str(error)) from error
    if version == len(MIGRATIONS):
        return db
    with closing(db):
        if version == 0:
            raise _no_ledger(path)
        try:
            return _migrated_copy(db, version)
        except sqlite3.Error as error:
            raise cannot_open(path, f"malformed: {error}") from error


def _migrated_copy(db: sqlite3.Connection, version: int) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        db.backup(copy)
        _migrate(copy, version)
    except BaseException:
        copy.close()
        raise
    return copy


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a ledger, 0 for an empty file. Raise `LedgerError` if this program cannot use it."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        text = f"{path} is a database of another program, not a ledger; it was left unchanged. {_REMEDY}"
        raise LedgerError(text, permanent=True)
    if version == 0:
        raise cannot_open(path, "malformed: it has no version")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger {path} was written by a newer omni_async (version {version}, this one knows "
            f"{len(MIGRATIONS)}); it was left unchanged. Update omni_async, or use another folder or ledger",
            permanent=True,
        )
    check_schema(db, path, version, create_version)
    return int(version)


def cannot_open(path: Path, reason: str) -> LedgerError:
    """Return the error for a ledger that SQLite cannot read."""
    if "not a database" in reason or "malformed" in reason:
        text = f"{path} is not a ledger, or is damaged ({reason}); it was left unchanged. {_REMEDY}"
        return LedgerError(text, permanent=True)
    text = f"the ledger {path} cannot be opened: {reason}. Choose a folder that is writable, on a local disk"
    return LedgerError(text)


_REMEDY = "Move it away, or use another folder or ledger"


def _no_ledger(path: Path) -> LedgerError:
    return LedgerError(f"there is no ledger {path}: no job has been recorded there")


def is_ledger(path: Path) -> bool:
    """Return whether a file looks like a ledger. Only its first bytes are read. Raise `OSError`."""
    if not is_regular(path):
        return False
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    application = int.from_bytes(header[68:72], "big")
    # As long as everything is in the write-ahead log, the file has no id.
    ids = {APPLICATION_ID, 0} if _has_log(path) else {APPLICATION_ID}
    return header.startswith(b"SQLite format 3\0") and application in ids


def _check_files(path: Path, suffixes: tuple[str, ...] = _COMPANIONS) -> None:
    """Raise `LedgerError` if the file, or one of the companions that SQLite writes, is a link or not a regular file.

    None of them is opened here: closing it would release the locks that a reader in this process holds on it.
    """
    for suffix in suffixes:
        file = path.with_name(path.name + suffix)
        # The ledger itself may have other names, as backups make them; a companion is written under all of its names.
        if os.path.lexists(file) and not is_regular(file, with_one_name=bool(suffix)):
            reason = "folder" if file.is_dir() and not file.is_symlink() else "link, or not a regular file"
            text = f"the ledger {path} cannot be opened: {file} is a {reason}. {_REMEDY}"
            raise LedgerError(text, permanent=True)


def _create(path: Path) -> None:
    """Create the file if it is missing, for its owner only: SQLite gives its companions the same mode."""
    with suppress(OSError):  # it is there; or it cannot be created, and SQLite says why
        os.close(open_regular(path, exclusive=True, mode=0o600))


# Of a database: what it is, and its application id.
_HEADER_BYTES = 100

# Smaller files cannot be databases: this is the smallest page size of SQLite, in bytes.
_SMALLEST_DATABASE = 512

# How a file is opened that no process writes: SQLite then creates no other file beside it.
_UNUSED = "mode=ro&immutable=1"


def _examine(path: Path, *, is_clean: bool) -> int:
    """Return the version of a file before anything writes to it; 0 if there is none yet. Raise `LedgerError`."""
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return 0
    if size < _SMALLEST_DATABASE:  # SQLite would treat it as empty and overwrite it
        raise cannot_open(path, "not a database")
    # The caller's lock keeps writers out. Without a write-ahead log, the file alone is complete.
    with closing(_connect(path, "mode=ro" if _has_log(path) else _UNUSED)) as db:
        version = check_version(db, path)
        if is_clean:
            return version
        # The full check, not `quick_check`: with a wrong index a key would not be found, and its job paid twice.
        (defect,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if defect != "ok":
            raise cannot_open(path, f"malformed: {defect}")
        return version


def _connect_to_read(path: Path) -> sqlite3.Connection:
    db = _connect(path, "mode=ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        # In a folder that is not writable SQLite cannot create its index of the log. Without a log it needs none.
        if _has_log(path):
            raise
        db = _connect(path, _UNUSED)
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA trusted_schema=OFF")  # a schema of somebody else may call no function with side effects
    return db


def _has_log(path: Path) -> bool:
    """Return whether there is a write-ahead log, whose content may be missing from the file."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _set_up(db: sqlite3.Connection, path: Path, version: int) -> None:
    # Milliseconds to wait for a reader that recovers the log. The lock keeps other writers out, so waits are short;
    # chosen, not measured.
    db.execute("PRAGMA busy_timeout=5000")
    (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise cannot_open(path, f"its file system has no shared memory for a write-ahead log ({mode})")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA fullfsync=1")  # on macOS a plain fsync stops at the drive's cache
    _migrate(db, version)


def create_version(db: sqlite3.Connection, version: int) -> None:
    """Create the tables of a version in an empty database."""
    _migrate(db, 0, version)


def _migrate(db: sqlite3.Connection, version: int, following: int | None = None) -> None:
    db.create_function("clip_names", 1, clip_names, deterministic=True)
    db.create_function("clip_folder", 1, clip_folder, deterministic=True)
    for number, script in enumerate(MIGRATIONS[version:following], start=version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number}; COMMIT;"
        )


# Functions for the script of version 4. They split paths of every system: a ledger may have been moved to another one.


def clip_names(paths: str | None) -> str | None:
    """Return the file names of a JSON list of paths, as a JSON list; None for no list."""
    names = [_split(path)[1] for path in json.loads(paths or "[]")]
    return json.dumps(names) if names else None


def clip_folder(paths: str | None) -> str | None:
    """Return the folder of the first path of a JSON list, as a JSON string; None if it names none."""
    folders = [folder for path in json.loads(paths or "[]") if (folder := _split(path)[0])]
    return json.dumps(folders[0]) if folders else None


def _split(path: str) -> tuple[str, str]:
    start = max(path.rfind("/"), path.rfind("\\")) + 1
    folder, name = path[:start], path[start:]
    is_root = not folder.strip("/\\") or folder[1:-1] == ":"
    return folder if is_root else folder.rstrip("/\\"), name
