"""The ledger in a file: one connection, in a thread of its own, that commits changes in groups.

Theory of operation. Each call adds an operation to the current group and returns it as an awaitable. The thread takes
the whole group, carries it out as one transaction, and then notifies the event loop. Meanwhile the next group forms:
the slower the disk, the larger the groups, so that 200 concurrent writers cost hardly more commits than one. The order
of calls is the order in the file.

If a group cannot be committed (a full disk), its operations raise `LedgerError`. Its `save`s are repeated with every
group that follows: what has been paid for is recorded as soon as there is space again. If only the row of one job is
at fault, the others are committed without it, and its operation raises what was wrong with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import LedgerError
from ..files import make_folders
from ..logs import get_logger
from . import rows
from .clean_close import clean_close_note, is_unchanged
from .commit_group import CommitGroup, Operation
from .lock import Lock
from .open_files import OpenFiles
from .schema import cannot_open, is_ledger, open_to_write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..jobs.records import JobRecord
    from ..jobs.spending import Spending
    from ..jobs.store import RecordPage
    from ..models.reference_files import Upload


_T = TypeVar("_T")

# What is wrong with the values of a row, and not with the file or the disk: text that is not Unicode, a number that is
# too large, a row that no client could have written.
_ROW_FAULTS = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,  # also `RecursionError`, and no file name being free
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,  # a value of a type that SQLite does not have
)

_log = get_logger(__name__)


class SqliteJobStore:
    """The `JobStore` port over one SQLite file, for the event loop in which it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unsaved: dict[str, _Save] = {}  # by key: the latest change of each job that could not be written
        self._condition = threading.Condition()
        self._current: CommitGroup[_Operation[Any]] = CommitGroup()
        self._is_closing = False
        self._closed: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="omni_async ledger", daemon=True)

    async def open(self) -> None:
        """Open the file, or create it. Raise `LedgerError`, or `LedgerLocked` if another process has it open."""
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        opened = self._add(_Operation(lambda _: None))
        self._thread.start()
        await opened

    def insert(self, record: JobRecord) -> _Operation[JobRecord | None]:
        """Record a new job, or return the record that has the same key or task already."""
        return self._add(_Operation(lambda db: rows.insert(db, record), is_of_one_job=True))

    def save(self, record: JobRecord) -> _Operation[None]:
        """Record a job's present state."""
        return self._add(_Save(record.key, lambda db: rows.save(db, record)))

    def record_accepted(self, record: JobRecord) -> _Operation[None]:
        """Record that the server accepted a job, whatever its row says by now."""
        return self._add(_Save(record.key, lambda db: rows.record_accepted(db, record)))

    def find(self, key: str) -> _Operation[JobRecord | None]:
        """Return the record of a key."""
        return self._add(_Operation(lambda db: rows.find(db, key), is_of_one_job=True))

    def claim_filename(self, key: str, index: int, *, taken: str = "") -> _Operation[str]:
        """Return the file name of video number `index` of a job."""
        return self._add(_Operation(lambda db: rows.claim_filename(db, key, index, taken), is_of_one_job=True))

    def unfinished(self, after: int = 0, limit: int = 1000) -> _Operation[RecordPage]:
        """Return the next jobs with something left to do, oldest first."""
        return self._add(_Operation(lambda db: rows.unfinished(db, after, limit)))

    def spending(self) -> _Operation[Spending]:
        """Return what all jobs have cost so far."""
        return self._add(_Operation(rows.spending))

    def durations(self) -> _Operation[list[JobRecord]]:
        """Return the latest jobs whose duration on the server is known, oldest first."""
        return self._add(_Operation(rows.durations))

    def find_upload(self, server: str, digest: str) -> _Operation[Upload | None]:
        """Return the last upload of a content to a server."""
        return self._add(_Operation(lambda db: rows.find_upload(db, server, digest), is_of_one_job=True))

    def save_upload(self, server: str, digest: str, upload: Upload) -> _Operation[None]:
        """Record an upload."""
        return self._add(_Operation(lambda db: rows.save_upload(db, server, digest, upload), is_of_one_job=True))

    def forget_upload(self, url: str) -> _Operation[None]:
        """Delete an upload by its URL."""
        return self._add(_Operation(lambda db: rows.forget_upload(db, url), is_of_one_job=True))

    def set_fact(self, name: str, value: str) -> _Operation[None]:
        """Record a fact under a name, replacing the previous one."""
        return self._add(_Operation(lambda db: rows.set_fact(db, name, value)))

    def get_fact(self, name: str) -> _Operation[str | None]:
        """Return the fact of a name."""
        return self._add(_Operation(lambda db: rows.get_fact(db, name)))

    async def aclose(self) -> None:
        """Make every change durable, and close. Raise `LedgerError` if some changes could not be written."""
        last = self._add(_Operation(lambda _: None))
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        if self._closed is not None:
            await last.settled()
            await self._closed.wait()
        if self._unsaved:
            keys = ", ".join(map(repr, list(self._unsaved)[:5]))
            raise LedgerError(
                f"the last changes of {len(self._unsaved)} job(s) ({keys}) could not be written to {self.path}. Run "
                "the same command again: a job recorded as being sent is sent again under its old idempotency key"
            )

    def _add(self, operation: _Operation[_T]) -> _Operation[_T]:
        with self._condition:
            operation.group = self._current
            if self._is_closing:
                error = LedgerError(f"the ledger {self.path} is closed", permanent=True)
                operation.group = CommitGroup(error=error, is_done=True)
            else:
                self._current.operations.append(operation)
                if len(self._current.operations) == 1:
                    self._condition.notify()
        return operation

    # The methods below run in the thread.

    def _run(self) -> None:
        try:
            path = _prepare_path(self.path)
            lock, note = Lock(path), ""
            try:
                with closing(open_to_write(path, is_clean=is_unchanged(path, lock.note))) as self._db:
                    self._files = OpenFiles(path)
                    self._files.check()
                    self._commit_groups()
                note = clean_close_note(path)
            finally:
                lock.release(note)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who await an operation must receive it
            self._fail(error)
        finally:
            assert self._closed is not None
            self._call_in_loop(self._closed.set)

    def _fail(self, error: Exception) -> None:
        """Make every operation, present and future, raise: the ledger does not exist, or no longer."""
        with self._condition:
            self._is_closing = True
            group, self._current = self._current, CommitGroup()
        group.error = error if isinstance(error, LedgerError) else cannot_open(self.path, repr(error))
        self._call_in_loop(group.finish)

    def _commit_groups(self) -> None:
        is_last = False
        while not is_last:
            with self._condition:
                while not self._current.operations and not self._is_closing:
                    self._condition.wait()
                group, self._current = self._current, CommitGroup()
                is_last = self._is_closing
            self._carry_out(group)

    def _carry_out(self, group: CommitGroup[_Operation[Any]]) -> None:
        try:
            self._commit(group)
            self._files.check()  # afterwards: a POST leaves when its row is committed to the file at the path
        except Exception as error:  # noqa: BLE001 - whatever it is, those who await an operation must receive it
            group.error = error if isinstance(error, LedgerError) else cannot_write(self.path, error)
            self._unsaved |= {each.key: each for each in group.operations if isinstance(each, _Save)}
        self._call_in_loop(group.finish)

    def _call_in_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed, so no task is awaiting the operations
            _log.debug("%s was written after its event loop had closed", self.path)

    def _commit(self, group: CommitGroup[_Operation[Any]]) -> None:
        """Commit a group, and the saves that failed before. A faulty row does not keep others from the disk."""
        operations = [*self._unsaved.values(), *group.operations]
        while (faulty := self._try_to_commit(operations)) is not None:
            operations.remove(faulty)
        self._unsaved.clear()

    def _try_to_commit(self, operations: list[_Operation[Any]]) -> _Operation[Any] | None:
        """Commit all or nothing. If a single operation is at fault, return it. Raise any other fault."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for operation in operations:
                operation.carry_out(db)
                if operation.fault is not None:
                    db.execute("ROLLBACK")
                    return operation
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return None


class _Operation(Operation[_T]):
    """Some work on the database. If it is of one job, and the row of that job is at fault, no other operation fails."""

    __slots__ = ("_is_of_one_job", "_work")

    value: _T | None
    fault: Exception | None

    def __init__(self, work: Callable[[sqlite3.Connection], _T], *, is_of_one_job: bool = False) -> None:
        super().__init__()
        self._work = work
        self._is_of_one_job = is_of_one_job

    def carry_out(self, db: sqlite3.Connection) -> None:
        """Do the work, within a transaction. What is wrong with the row of its job becomes its `fault`."""
        try:
            self.value, self.fault = self._work(db), None
        except _ROW_FAULTS as error:
            if not self._is_of_one_job:
                raise
            self.fault = error


class _Save(_Operation[None]):
    """A change of a job that is repeated if it fails."""

    __slots__ = ("key",)

    def __init__(self, key: str, work: Callable[[sqlite3.Connection], None]) -> None:
        super().__init__(work, is_of_one_job=True)
        self.key = key


def cannot_write(path: Path, error: Exception) -> LedgerError:
    """Return the error for changes that have not reached the disk."""
    wrapped = LedgerError(
        f"the ledger {path} cannot be written: {error}. Nothing more is submitted. Fix the problem and run the same "
        "command again: jobs already accepted are not paid again"
    )
    wrapped.__cause__ = error
    return wrapped


def _prepare_path(path: Path) -> Path:
    """Create the folder, and return the path without symbolic links, so that a file has one lock.

    Raise `LedgerError`.
    """
    try:
        make_folders(path.parent)
        resolved = path.resolve()
        leads_nowhere = path.is_symlink() and not is_ledger(resolved)
    except RuntimeError as error:  # Python 3.11 and 3.12 raise it for a link to itself
        raise LedgerError(f"the ledger {path}: {error}. Remove it, or name another", permanent=True) from error
    except OSError as error:
        raise cannot_open(path, f"{error.strerror} ({error.filename})") from error
    if leads_nowhere:  # create no file where somebody else's link leads, not even a lock
        text = f"the ledger {path} is a symbolic link to {resolved}, which is not a ledger. Remove it, or name another"
        raise LedgerError(text, permanent=True)
    return resolved
