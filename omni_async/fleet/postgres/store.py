"""`PostgresJobStore`: the `JobStore` port of the leader of an account, over tables that other processes write too.

Theory of operation. As in the local ledger, calls are gathered while a group is on its way. A group is one message to
the server and one transaction: the fence, the rows as one JSON list, the tasks of the downloads. So a leader that is
stopped or cut off never holds a transaction open, and 200 concurrent writers cost few commits.

The fence makes every decision of a past leader void: it raises `LedgerFenced`, and nothing more is written. What the
server has told that leader stays true, though. A task id is written where the row has none; that a submit was not
executed, where its row still says that it may have been. If the database is unreachable, a group is repeated until it
answers: meanwhile nothing is submitted, because nothing can be recorded.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import psycopg

from ...errors import LedgerError, LedgerFenced
from ...jobs.lifecycle import NOT_RESUMABLE, JobStatus
from ...ledger.commit_group import UNRECORDED, CommitGroup, Operation, OperationT
from ...logs import get_logger
from ...timing import cancel_and_wait
from . import rows
from .database import FENCED, NOTIFY, OTHER_TIMELINE, cut, cut_after, describe, is_transient, statement
from .operations import (
    Acceptance,
    FactWrite,
    Find,
    RowWrite,
    Save,
    Work,
    as_list,
    batches,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ...jobs.records import JobRecord
    from ...jobs.spending import Spending
    from ...jobs.store import RecordPage
    from ...models.reference_files import Upload
    from .database import Database, PostgresConnection


_T = TypeVar("_T")

# Seconds that a group may take before its connection is cut and it is sent again. Longer than `lock_timeout`, so that a
# lock is reported as one.
_GROUP_TIMEOUT = 15.0
# Seconds between two attempts while the database is unreachable: half the time that a submit waits longer than it must.
_RETRY_INTERVAL = 0.25
_CUT_TIMEOUT = 0.25  # seconds in which what waits for a connection that was cut raises its error

_CHECK_FENCE = "SELECT omni_fence(%s, %s, %s)"  # parameters: account, epoch, timeline

_log = get_logger(__name__)


class PostgresJobStore:
    """The `JobStore` port over the rows of one account, under one epoch.

    `on_fenced()` is called once, when another leader has taken over. The store is used in one event loop.
    """

    def __init__(
        self,
        database: Database,
        account: str,
        *,
        epoch: int,
        timeline: int,
        on_fenced: Callable[[], object] = lambda: None,
    ) -> None:
        self.account = account
        self._database = database
        self._fence = (account, epoch, timeline)
        self._on_fenced = on_fenced
        self.before_commit: Callable[[], object] = lambda: None  # called before rows are written: it may add facts
        self.local_requests: dict[str, str] = {}  # by key: requests that name files as they are called on this machine
        self._current: CommitGroup[Operation[Any]] = CommitGroup()
        self._wake = asyncio.Event()
        self._is_closing = False
        self._fenced: LedgerFenced | None = None
        self._connection: PostgresConnection | None = None
        self._is_away = False  # the user knows that the database does not answer
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raise `LedgerError`, or `LedgerFenced` if this epoch is over."""
        self._task = asyncio.create_task(self._run(), name=f"omni_async store of {self.account}")
        try:
            await self.fenced(_nothing)
        except BaseException:
            await self._give_up(self._task)  # nothing would be lost
            await self.aclose()
            raise

    # The port

    def insert(self, record: JobRecord) -> Operation[JobRecord | None]:
        """Record a new job, or return the record that has the same key or task already."""
        return self.fenced(lambda db: rows.insert(db, self.account, record))

    def save(self, record: JobRecord) -> Operation[None]:
        """Record a job's present state. One that is `downloading` is given to the workers in the same transaction."""
        return self._add_row(Save, record)

    def record_accepted(self, record: JobRecord) -> Operation[None]:
        """Record that the server accepted a job, also if another worker leads by now."""
        return self._add_row(Acceptance, record)

    def find(self, key: str) -> Operation[JobRecord | None]:
        """Return the record of a key."""
        return self._add(Find(key))

    def claim_filename(self, key: str, index: int, *, taken: str = "") -> Operation[str]:
        """Return the file name of video number `index` of a job."""
        return self.fenced(lambda db: rows.claim_filename(db, self.account, key, index, taken))

    def unfinished(self, after: int = 0, limit: int = 1000) -> Operation[RecordPage]:
        """Return the next jobs with something left to do, oldest first."""
        return self.read(lambda db: rows.unfinished(db, self.account, after, limit))

    def spending(self) -> Operation[Spending]:
        """Return what all jobs have cost so far."""
        return self.read(lambda db: rows.spending(db, self.account))

    def durations(self) -> Operation[list[JobRecord]]:
        """Return the latest jobs whose duration on the server is known, oldest first."""
        return self.read(lambda db: rows.durations(db, self.account))

    def find_upload(self, server: str, digest: str) -> Operation[Upload | None]:
        """Return the last upload of a content to a server."""
        return self.read(lambda db: rows.find_upload(db, self.account, server, digest))

    def save_upload(self, server: str, digest: str, upload: Upload) -> Operation[None]:
        """Record an upload."""
        return self.fenced(lambda db: rows.save_upload(db, self.account, server, digest, upload))

    def forget_upload(self, url: str) -> Operation[None]:
        """Delete an upload by its URL."""
        return self.fenced(lambda db: rows.forget_upload(db, self.account, url))

    def set_fact(self, name: str, value: str) -> Operation[None]:
        """Record a fact under a name, replacing the previous one."""
        return self._add(FactWrite(name, value))

    def get_fact(self, name: str) -> Operation[str | None]:
        """Return the fact of a name."""
        return self.read(lambda db: rows.get_fact(db, self.account, name))

    async def aclose(self) -> None:
        """Make every change durable, and close. Raise `LedgerError` if that is impossible.

        While the database is unreachable it waits: the caller limits for how long.
        """
        self._is_closing = True
        self._wake.set()
        task, self._task = self._task, None
        try:
            if task is not None:
                await self._finish(task)
        finally:
            if self._connection is not None:
                await self._connection.close()

    async def _finish(self, task: asyncio.Task[None]) -> None:
        """Wait until every group was carried out; if the caller cannot wait any longer, give up immediately."""
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            await self._give_up(task)
            raise
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _give_up(self, task: asyncio.Task[None]) -> None:
        if self._connection is not None:  # else psycopg would wait for a server that does not answer
            cut(self._connection)
            await asyncio.wait({task}, timeout=_CUT_TIMEOUT)
        await cancel_and_wait([task])

    # What the leader needs besides

    def fenced(self, work: Callable[[PostgresConnection], Awaitable[_T]]) -> Operation[_T]:
        """Do something in a transaction that begins with the fence."""
        return self._add(Work(work, is_fenced=True))

    def read(self, work: Callable[[PostgresConnection], Awaitable[_T]]) -> Operation[_T]:
        """Do something that changes nothing, after everything before it."""
        return self._add(Work(work, is_fenced=False))

    # The groups

    def _add_row(self, kind: type[RowWrite], record: JobRecord) -> Operation[None]:
        try:
            operation = kind(record)
        except (ValueError, TypeError) as error:  # no row can hold it: that is this job's own fault
            failed: Operation[None] = Operation()
            failed.group = CommitGroup(error, is_done=True)
            return failed
        return self._add(operation)

    def _add(self, operation: OperationT) -> OperationT:
        operation.group = self._current
        if self._task is None or (self._fenced is not None and not isinstance(operation, Acceptance)):
            closed = LedgerError(f"the store of the account {self.account!r} is closed", permanent=True)
            operation.group = CommitGroup(self._fenced or closed, is_done=True)
        else:
            self._current.operations.append(operation)
            self._wake.set()
        return operation

    async def _run(self) -> None:
        while not (self._is_closing and not self._current.operations):
            await self._wake.wait()
            self._wake.clear()
            if any(isinstance(each, RowWrite) for each in self._current.operations):
                self._add_facts()
            group, self._current = self._current, CommitGroup()
            try:
                for batch in batches(group.operations):
                    await self._carry_out(batch)
            finally:
                group.finish()

    def _add_facts(self) -> None:
        try:
            self.before_commit()
        except Exception:  # noqa: BLE001 - rows are written whatever becomes of the facts beside them
            _log.exception("the facts beside the rows of %s could not be made", self.account)

    async def _carry_out(self, batch: Sequence[Operation[Any]]) -> None:
        """Carry out some operations together, repeatedly while the database is unreachable."""
        while True:
            try:
                await self._try_to_carry_out(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who await an operation must receive it
                code = getattr(error, "sqlstate", None)
                if code in {FENCED, OTHER_TIMELINE}:
                    self._set_fenced(str(error).splitlines()[0])
                elif is_transient(error):
                    if self._is_closing and not any(isinstance(each, RowWrite) for each in batch):
                        return  # nothing would be lost
                    await self._wait_for_database(error)
                elif len(batch) > 1:  # a faulty row keeps no other from the database
                    for operation in batch:
                        await self._carry_out([operation])
                    return
                else:
                    batch[0].fault = describe(error, self._database) if isinstance(error, psycopg.Error) else error
                    return
            else:
                for operation in batch:
                    operation.fault = None if operation.fault is UNRECORDED else operation.fault
                self._report_recovery()
                return

    async def _try_to_carry_out(self, batch: Sequence[Operation[Any]]) -> None:
        if self._fenced is not None:
            await self._merge_facts(batch)
            return
        connection = await self._connected()
        with cut_after(_GROUP_TIMEOUT, connection):
            match batch[0]:
                case Find():
                    finds = [each for each in batch if isinstance(each, Find)]
                    found = await rows.find_all(connection, self.account, [each.key for each in finds])
                    for find in finds:
                        find.value = self._localized(found.get(find.key))
                case Work() as work if work.is_fenced:
                    async with connection.transaction():
                        await connection.execute(_CHECK_FENCE, self._fence)
                        work.value = await work.work(connection)
                case Work() as work:
                    work.value = await work.work(connection)
                case _:
                    await self._write(connection, batch)

    async def _write(self, connection: PostgresConnection, batch: Sequence[Operation[Any]]) -> None:
        """Write rows and facts: one message, and so one transaction, that begins with the fence."""
        saves = {each.key: each for each in batch if isinstance(each, Save)}
        accepted = {each.key: each for each in batch if isinstance(each, Acceptance)}
        facts = {each.name: each.text for each in batch if isinstance(each, FactWrite)}
        downloading = [key for key, each in saves.items() if each.record.status is JobStatus.DOWNLOADING]
        ended = [key for key, each in saves.items() if each.record.status in NOT_RESUMABLE]
        message: list[tuple[str, tuple[object, ...]]] = [
            (_CHECK_FENCE, self._fence),
            ("SELECT omni_save(%s, %s, false)", (self.account, as_list(saves))),
            ("SELECT omni_save(%s, %s, true)", (self.account, as_list(accepted))),
        ]
        if facts:
            message.append((rows.SET_FACTS, (self.account, json.dumps(facts))))
        if downloading:
            message.append((rows.DEFER, (self.account, downloading)))
        if downloading or ended:
            message.append(("SELECT omni_release(%s, %s)", (self.account, downloading + ended)))
        if ended:
            message.append((NOTIFY, (self.account,)))
        cursor = psycopg.AsyncClientCursor(connection)
        text = "; ".join(sql for sql, _ in message)
        await cursor.execute(statement(text), [value for _, values in message for value in values])
        cursor.nextset()
        (unwritten,) = await cursor.fetchone() or ([],)
        cursor.nextset()
        (elsewhere,) = await cursor.fetchone() or ([],)
        for key in (*unwritten, *elsewhere):
            record = (accepted if key in elsewhere else saves)[key].record
            async with connection.transaction():
                await connection.execute(_CHECK_FENCE, self._fence)
                merge = rows.merge_accepted_row if key in elsewhere else rows.insert_missing
                await merge(connection, self.account, record)

    async def _merge_facts(self, batch: Sequence[Operation[Any]]) -> None:
        """Write what stays true although another worker leads: nothing that this client has decided."""
        for operation in batch:
            if isinstance(operation, Acceptance):
                connection = await self._connected()
                with cut_after(_GROUP_TIMEOUT, connection):
                    async with connection.transaction():
                        await rows.merge_accepted_row(connection, self.account, operation.record)
                _log.warning("job %r was accepted as %s; recorded late", operation.key, operation.record.task_id)
            elif isinstance(operation, Save) and operation.record.status is JobStatus.WAITING:
                connection = await self._connected()
                with cut_after(_GROUP_TIMEOUT, connection):
                    await rows.merge_not_executed(connection, self.account, operation.record)
                operation.fault = self._fenced
            else:
                operation.fault = self._fenced

    def _localized(self, record: JobRecord | None) -> JobRecord | None:
        """Return a record with its files as they are called on this machine. Rows keep their names: none is saved."""
        if record is None or record.key not in self.local_requests:
            return record
        return replace(record, request=self.local_requests[record.key])

    async def _connected(self) -> PostgresConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await self._database.connect(f"leader of {self.account}")
        return self._connection

    def _set_fenced(self, reason: str) -> None:
        if self._fenced is None:
            self._fenced = LedgerFenced(f"{reason}. Nothing more is submitted here")
            _log.warning("%s", self._fenced)
            self._on_fenced()

    async def _wait_for_database(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if not self._is_away:
            _log.warning("submits wait until the database answers again: %s", describe(error, self._database))
            self._is_away = True
        await anyio.sleep(_RETRY_INTERVAL)

    def _report_recovery(self) -> None:
        if self._is_away:
            _log.warning("the database answers again")
            self._is_away = False


async def _nothing(connection: PostgresConnection) -> None:
    """Do nothing but pass the fence."""
