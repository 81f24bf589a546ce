"""The ledger in a file: one connection in a thread of its own, which commits together whatever has gathered.

Theory of operation. Each call adds an operation to the group that is gathering and gives a ticket for it. The thread
takes the whole group, carries it out as one transaction and then tells the event loop, while the next group gathers:
the slower the disk, the larger the groups, so that two hundred writers cost hardly more than one. An order of calls is
an order in the file.

A group that cannot be committed (a full disk) raises `LedgerError` from its tickets, and its `save`s are tried again
with every group that follows: what has been paid should be known as soon as there is room again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import LedgerError
from . import rows
from .lock import Lock
from .schema import cannot_open, open_to_write

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ..jobs.records import JobRecord
    from ..jobs.spending import Spending
    from ..models.reference_files import Upload


_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class SqliteJobStore:
    """The `Ledger` port over one SQLite file, for the event loop in which it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unsaved: dict[str, JobRecord] = {}  # could not be written so far
        self._condition = threading.Condition()
        self._gathering = _CommitGroup()
        self._is_closing = False
        self._closed: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="omni_async ledger", daemon=True)

    async def open(self) -> None:
        """Open the file, or make it. Raises `LedgerError`; `LedgerLocked` where somebody else has it open."""
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        opened = self._add(_Operation(lambda _: None))
        self._thread.start()
        await opened

    def insert(self, record: JobRecord) -> _Operation[JobRecord | None]:
        """Record a new job, or give the one that stands for the same key or task already."""
        return self._add(_Operation(lambda db: rows.insert(db, record)))

    def save(self, record: JobRecord) -> _Operation[None]:
        """Record how a job stands now."""
        return self._add(_Save(record))

    def find(self, key: str) -> _Operation[JobRecord | None]:
        """Give what is recorded under a key."""
        return self._add(_Operation(lambda db: rows.find(db, key)))

    def claim_filename(self, key: str, index: int) -> _Operation[str]:
        """Give the file name of video number `index` of a job."""
        return self._add(_Operation(lambda db: rows.claim_filename(db, key, index)))

    def unfinished(self) -> list[JobRecord]:
        """Give the jobs with something left to do, oldest first. Waits for the disk: some 10 µs for each of them."""
        return self._add(_Operation(rows.unfinished)).wait_here()

    def spending(self) -> _Operation[Spending]:
        """Give what all jobs here have cost so far."""
        return self._add(_Operation(rows.spending))

    def durations(self) -> _Operation[list[JobRecord]]:
        """Give the latest jobs of which it is known how long the server took, oldest first."""
        return self._add(_Operation(rows.durations))

    def find_upload(self, server: str, digest: str) -> _Operation[Upload | None]:
        """Give the last upload of this content to a server."""
        return self._add(_Operation(lambda db: rows.find_upload(db, server, digest)))

    def save_upload(self, server: str, digest: str, upload: Upload) -> _Operation[None]:
        """Remember an upload."""
        return self._add(_Operation(lambda db: rows.save_upload(db, server, digest, upload)))

    def forget_upload(self, url: str) -> _Operation[None]:
        """Forget where an upload is."""
        return self._add(_Operation(lambda db: rows.forget_upload(db, url)))

    def set_fact(self, name: str, value: str) -> _Operation[None]:
        """Keep a fact about the server under a name."""
        return self._add(_Operation(lambda db: rows.set_fact(db, name, value)))

    def get_fact(self, name: str) -> _Operation[str | None]:
        """Give the fact that was kept under a name."""
        return self._add(_Operation(lambda db: rows.get_fact(db, name)))

    async def aclose(self) -> None:
        """Make everything sure, and close. Raises `LedgerError` where something could not be written to the end."""
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
                f"the last changes of {len(self._unsaved)} job(s) ({keys}) could not be written to {self.path}"
            )

    def _add(self, ticket: _Operation[_T]) -> _Operation[_T]:
        with self._condition:
            ticket.group = self._gathering
            if self._is_closing:
                ticket.group = _CommitGroup(error=LedgerError(f"the ledger {self.path} is closed"), is_done=True)
            else:
                self._gathering.tickets.append(ticket)
                if len(self._gathering.tickets) == 1:
                    self._condition.notify()
        return ticket

    # In the thread

    def _run(self) -> None:
        try:
            path = _prepare_path(self.path)
            lock = Lock(path)
            try:
                with closing(open_to_write(path)) as self._db:
                    self._serve()
            finally:
                lock.release()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._refuse(error)
        finally:
            assert self._closed is not None
            self._call(self._closed.set)

    def _refuse(self, error: Exception) -> None:
        """Tell all who wait, and all who will come, that there is no ledger (any more)."""
        with self._condition:
            self._is_closing = True
            group, self._gathering = self._gathering, _CommitGroup()
        group.error = error if isinstance(error, LedgerError) else cannot_open(self.path, repr(error))
        self._tell(group)

    def _serve(self) -> None:
        is_last = False
        while not is_last:
            with self._condition:
                while not self._gathering.tickets and not self._is_closing:
                    self._condition.wait()
                group, self._gathering = self._gathering, _CommitGroup()
                is_last = self._is_closing
            self._settle(group)

    def _settle(self, group: _CommitGroup) -> None:
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            group.error = cannot_write(self.path, error)
            self._unsaved |= {ticket.record.key: ticket.record for ticket in group.tickets if isinstance(ticket, _Save)}
        self._tell(group)

    def _tell(self, group: _CommitGroup) -> None:
        group.is_carried_out.set()
        self._call(group.finish)

    def _call(self, what: Callable[[], None]) -> None:
        """Have something called in the event loop."""
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: nobody is left who waits
            _log.debug("nobody heard that %s was written", self.path)

    def _commit(self, group: _CommitGroup) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for record in self._unsaved.values():
                rows.save(db, record)
            for ticket in group.tickets:
                ticket.carry_out(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._unsaved.clear()


class _CommitGroup:
    """Operations that are committed together."""

    def __init__(self, error: LedgerError | None = None, *, is_done: bool = False) -> None:
        self.tickets: list[_Operation[Any]] = []
        self.error = error
        self.is_done = is_done  # changed in the event loop only
        self.is_carried_out = threading.Event()
        self._waiters: asyncio.Event | None = None
        if is_done:
            self.is_carried_out.set()

    def finish(self) -> None:
        """Let those go on who wait for it; runs in the event loop."""
        self.is_done = True
        self.tickets = []
        if self._waiters is not None:
            self._waiters.set()

    async def done(self) -> None:
        """Wait until it is on the disk, or cannot be."""
        self._waiters = self._waiters or asyncio.Event()
        await self._waiters.wait()


class _Operation(Generic[_T]):
    """One operation, and its result for whoever awaits it."""

    __slots__ = ("_value", "_work", "group")

    group: _CommitGroup
    _value: _T

    def __init__(self, work: Callable[[sqlite3.Connection], _T]) -> None:
        self._work = work

    def carry_out(self, db: sqlite3.Connection) -> None:
        """Do it, within a transaction."""
        self._value = self._work(db)

    def wait_here(self) -> _T:
        """Give the result, blocking until there is one."""
        self.group.is_carried_out.wait()
        return self._result()

    async def settled(self) -> None:
        """Wait until it is on the disk, or cannot be."""
        if not self.group.is_done:
            await self.group.done()

    def __await__(self) -> Generator[Any, None, _T]:
        yield from self.settled().__await__()
        return self._result()

    def _result(self) -> _T:
        if self.group.error is not None:
            raise self.group.error.with_traceback(None)  # else each waiter would see the tracebacks of those before
        return self._value


class _Save(_Operation[None]):
    """A `save`, which is kept where it fails."""

    __slots__ = ("record",)

    def __init__(self, record: JobRecord) -> None:
        super().__init__(lambda db: rows.save(db, record))
        self.record = record


def cannot_write(path: Path, error: Exception) -> LedgerError:
    """Give the error for changes that have not reached the disk."""
    text = f"the ledger {path} cannot be written: {error}. Nothing more is submitted; mend the cause and run it again"
    wrapped = LedgerError(text)
    wrapped.__cause__ = error
    return wrapped


def _prepare_path(path: Path) -> Path:
    """Make the folder, and give the path without links, so that one file has one lock. Raises `LedgerError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.resolve()
    except OSError as error:
        raise cannot_open(path, f"{error.strerror} ({error.filename})") from error
