"""`Watcher`: waits for jobs to end, by notifications of the database, and by checking now and then. Used by `Fleet`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import psycopg

from ...errors import JobError, LedgerError
from ...logs import get_logger
from ...timing import WakeEvent, cancel_and_wait
from .database import CHANNEL, statement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...jobs.records import JobRecord
    from .database import Database

# Seconds after which jobs are checked although nothing was notified, and the least between two checks: a busy fleet
# notifies ten times a second. Half asks the database twice as often; double lets a waiter learn of a clip later.
_INTERVAL, _MIN_INTERVAL = 2.0, 0.1
# Jobs that one statement asks for.
_PAGE = 1000

_log = get_logger(__name__)


class Watcher:
    """Waits for jobs to end.

    `find(keys)` returns the records of those keys that exist, `find(keys, only_ended=True)` of jobs that have ended.

    The database says that something has changed in an account (LISTEN), and then the jobs that are waited for are
    checked. They are also checked every few seconds: notifications get lost with a connection, and do not pass a
    pooler at all. Nothing of this begins before somebody waits. An outage of the database is waited out.
    """

    def __init__(self, database: Database, account: str, find: Callable[..., Awaitable[dict[str, JobRecord]]]) -> None:
        self._database = database
        self._account = account
        self._find = find
        self._callbacks: dict[str, list[Callable[[JobRecord | Exception], object]]] = {}
        self._wake = WakeEvent()
        self._failure: Exception | None = None
        self._existing: set[str] = set()  # keys that are waited for and are known to exist
        self._is_away = False  # the database does not answer
        self._tasks: list[asyncio.Task[None]] = []

    async def stop(self, reason: Exception) -> None:
        """Stop, and tell everyone who waits, now or later, why there will be no more results."""
        await cancel_and_wait(self._tasks)
        self._close(reason)

    def add(self, key: str, callback: Callable[[JobRecord | Exception], object]) -> None:
        """Call `callback` once with the record of a job when it has ended, or with why that cannot be known."""
        if self._failure is not None:
            raise self._failure
        self._start()
        self._callbacks.setdefault(key, []).append(callback)
        self._wake.set()

    def discard(self, key: str, callback: Callable[[JobRecord | Exception], object]) -> None:
        """Forget a callback that was not called yet."""
        callbacks = self._callbacks.get(key, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            self._callbacks.pop(key, None)
            self._existing.discard(key)

    async def wait(self, key: str) -> JobRecord:
        """Wait until a job has ended, and return its record. Raise `JobError` if there is no such job."""
        future: asyncio.Future[JobRecord | Exception] = asyncio.get_running_loop().create_future()

        def set_result(result: JobRecord | Exception) -> None:
            if not future.done():  # its waiter was cancelled in this turn of the event loop
                future.set_result(result)

        self.add(key, set_result)
        try:
            result = await future
        finally:
            self.discard(key, set_result)
        if isinstance(result, Exception):
            raise result
        return result

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._check_repeatedly(), name="omni_async fleet watcher"),
                asyncio.create_task(self._listen(), name="omni_async fleet listener"),
            ]

    async def _check_repeatedly(self) -> None:
        while True:
            await self._wake.wait(_INTERVAL if self._callbacks else None)
            try:
                keys = list(self._callbacks)
                for start in range(0, len(keys), _PAGE):
                    await self._check(keys[start : start + _PAGE])
            except LedgerError as error:
                if not self._is_away:
                    _log.warning("%s. Those who wait for jobs continue to wait", error)
                    self._is_away = True
            else:
                self._is_away = False
            await anyio.sleep(_MIN_INTERVAL)

    def _close(self, error: Exception) -> None:
        self._failure = error
        while self._callbacks:
            self._call(next(iter(self._callbacks)), error)

    async def _check(self, keys: list[str]) -> None:
        """Check some jobs. Raise `LedgerError` for an outage; what is wrong with one job only its waiters are told."""
        try:
            await self._check_together(keys)
        except Exception as error:  # whatever it is, those who wait must be told
            if isinstance(error, LedgerError) and not error.permanent:
                raise
            if len(keys) == 1:
                self._call(keys[0], error)
                return
            middle = len(keys) // 2
            await self._check(keys[:middle])
            await self._check(keys[middle:])

    async def _check_together(self, keys: list[str]) -> None:
        new = [key for key in keys if key not in self._existing]
        found = await self._find(new) if new else {}
        for key in new:
            if key not in found:
                self._call(key, JobError(f"there is no job {key!r} in this fleet", key=key))
        self._existing |= found.keys() & self._callbacks.keys()
        if old := list(set(keys).difference(new)):
            found |= await self._find(old, only_ended=True)
        for key, record in found.items():
            if record.status.is_final:
                self._call(key, record)

    def _call(self, key: str, result: JobRecord | Exception) -> None:
        self._existing.discard(key)
        for callback in self._callbacks.pop(key, []):
            callback(result)

    async def _listen(self) -> None:
        while True:
            try:
                async with await self._database.connect("listener", direct=True) as connection:
                    if (
                        not self._database.notifies
                    ):  # a session of the pooler would listen from now on, for its next user
                        _log.debug("no notifications through a pooler: set OMNI_DIRECT_DATABASE_URL to get them")
                        return
                    await connection.execute(statement(f"LISTEN {CHANNEL}"))
                    self._wake.set()
                    async for notification in connection.notifies():
                        if notification.payload == self._account:
                            self._wake.set()
            except (psycopg.Error, LedgerError) as error:
                _log.debug("no notifications for the moment: %s", error)
            await anyio.sleep(_INTERVAL)
