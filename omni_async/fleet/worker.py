"""`FleetWorker`: one process of a fleet. It downloads, and it leads an account whenever no other worker does.

All workers are alike and know nothing of each other: what they share is the database and the clip store.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import anyio

from ..downloads.concurrency import START
from ..errors import LedgerError, OmniError
from ..jobs.store import OUTPUT_DIR
from ..logs import get_logger
from ..settings import Limits
from .clips import SpooledClipStore, clip_store
from .fetch_queue import FetchQueue
from .fetcher import Fetcher, FetchTotals
from .leader import Leader
from .postgres.database import DATABASE_ERRORS, Database, cut_after, describe, is_transient, statement
from .postgres.lease import Turn, can_lead
from .postgres.schema import check
from .requests import validate_account

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..api.connection import Connection
    from ..jobs.events import JobEvent
    from ..settings import Polling, Retry
    from .postgres.database import PostgresConnection, PostgresPool


_log = get_logger(__name__)

Role: TypeAlias = Literal["all", "submit", "download"]

# Seconds between two updates of this worker's row. Twice as long shows others what it did a while ago.
_ANNOUNCE_INTERVAL = 2.0
_STATEMENT_TIMEOUT = 5.0  # seconds that such an update may take
_LEAVE_TIMEOUT = 2.0  # seconds for taking the row away at the end
_DONE_CHECK_INTERVAL = 0.5  # seconds between two checks whether everything is done
_VERSION_CHECK = 5  # updates between two checks: another version of the tables ends this worker

_UPDATE_WORKER = """
INSERT INTO omni_workers (worker, host, pid, role, version, started_at, seen_at, leads, fetching, fetched, bytes)
VALUES (%s, %s, %s, %s, %s, now(), now(), %s, %s, %s, %s)
ON CONFLICT (worker) DO UPDATE SET seen_at = now(), leads = excluded.leads, fetching = excluded.fetching,
    fetched = excluded.fetched, bytes = excluded.bytes
"""
_DELETE_KILLED_WORKERS = "DELETE FROM omni_workers WHERE seen_at < now() - interval '1 day'"
_DELETE_WORKER = "DELETE FROM omni_workers WHERE worker = %s"
# Where the clips are, for those who only read: what the worker has said that was started last.
_RECORD_STORE = f"""
INSERT INTO omni_facts (account, name, value) SELECT account, '{OUTPUT_DIR}', %s FROM omni_accounts
ON CONFLICT (account, name) DO UPDATE SET value = excluded.value WHERE %s AND omni_facts.value <> excluded.value
"""
_SELECT_STORE = f"SELECT value FROM omni_facts WHERE name = '{OUTPUT_DIR}' LIMIT 1"
_SUMS = """
SELECT account.account, account.state, CASE WHEN expires_at > now() THEN coalesce(stopped, '') ELSE '' END,
    coalesce(sum(jobs) FILTER (WHERE status = 'waiting'), 0),
    coalesce(sum(jobs) FILTER (WHERE status IN ('submitting', 'running')), 0),
    coalesce(sum(jobs) FILTER (WHERE status = 'downloading'), 0)
FROM omni_accounts AS account LEFT JOIN omni_totals USING (account) GROUP BY account.account
"""


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """What a worker does: the accounts that it leads, jobs being downloaded, jobs completed, and bytes received."""

    leads: tuple[str, ...]
    fetching: int
    fetched: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left to do for an account: numbers of jobs, and why those that wait are not submitted."""

    state: str
    stopped: str
    waiting: int
    in_flight: int
    downloading: int

    def has_work(self, role: Role) -> bool:
        """Return whether workers of a role, with the others, have work left."""
        may_submit = not self.stopped and self.state != "draining"
        return bool(self.in_flight or (self.waiting and may_submit) or (self.downloading and role != "submit"))


class FleetWorker:
    """One worker of a fleet. `run` it in your own event loop, or with ``omni-async fleet worker``::

        worker = FleetWorker("postgresql://...", store="/mnt/clips", api_keys={"default": key})
        await worker.run()

    - ``database``: its URL, or a `Database`.
    - ``store``: where clips are kept: a folder that all workers share, a folder of each worker's own, or the URL of
      an object store. ``spool``: the folder for clips in progress.
    - ``api_keys``: the API key of each account that this worker may lead. Nothing else needs a key.
    - ``role``: "submit" leads and does not download, "download" downloads and does not lead.
    - ``lease``: seconds after which others take over from a leader, or the tasks of a worker, that has gone silent.
    - ``name``: unique among all workers; made from the host's name by default.
    - ``base_url``, ``connection``, ``limits``, ``retry``, ``polling``: as of `OmniClient`, for every account. The
      worker downloads ``limits.max_downloads`` clips at the same time, 8 if that is None.
    - ``on_event``: gets the events of this worker: those of jobs while it leads, and those of its downloads.

    Raise `ValueError` for settings that do not fit together.
    """

    def __init__(
        self,
        database: str | Database,
        *,
        store: str | os.PathLike[str] | SpooledClipStore | None = None,
        spool: str | os.PathLike[str] | None = None,
        api_keys: Mapping[str, str] | None = None,
        role: Role = "all",
        lease: float = 10.0,
        name: str | None = None,
        base_url: str | None = None,
        connection: Connection | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        polling: Polling | None = None,
        on_event: Callable[[JobEvent], object] | None = None,
    ) -> None:
        _validate(role, store, api_keys, lease)
        self.name: str = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        # Why this worker could not lead accounts, and why `run` has ended although jobs of theirs wait.
        self.stop_errors: dict[str, str] = {}
        self._database = Database(database) if isinstance(database, str) else database
        self._role = role
        self._lease_seconds = lease
        self._downloads = (limits or Limits()).max_downloads or START
        self._clips = store if isinstance(store, SpooledClipStore) else None
        if store is not None and self._clips is None:
            self._clips = clip_store(store, spool)  # type: ignore[arg-type]
        common: dict[str, Any] = {"connection": connection, "retry": retry, "on_event": on_event}
        self._fetcher: Fetcher | None = None
        if self._clips is not None and role != "submit":
            self._fetcher = Fetcher(self._database, self._clips, worker=self.name, **common)
        # Of each leader: `turn` spreads several accounts over the workers.
        self._settings = common | {"base_url": base_url, "lease_seconds": lease, "limits": limits, "polling": polling}
        self._settings |= {"turn": Turn(lambda: len(self.leads))}
        self._api_keys = dict(api_keys or {}) if role != "download" else {}
        self._leaders: list[Leader] = []
        self._is_away = False  # the database does not answer
        self._pool: PostgresPool  # from `run` on
        self._queue: FetchQueue

    @property
    def leads(self) -> tuple[str, ...]:
        """The accounts that this worker leads now."""
        return tuple(leader.account for leader in self._leaders if leader.is_leading)

    def statistics(self) -> WorkerStatistics:
        """Return what this worker does now, and has done."""
        totals = self._fetcher.totals if self._fetcher is not None else FetchTotals()
        return WorkerStatistics(self.leads, totals.fetching, totals.fetched, totals.bytes)

    async def run(self, *, until_done: bool = False) -> None:
        """Work until cancelled, or with `until_done` until no job of its accounts is left to be done.

        When it ends, whatever the reason, its leases and unfinished downloads go to other workers immediately. Raise
        `LedgerError` if the database cannot be used, `OSError` if the clip store cannot, and `OmniError` if none of its
        accounts can be led.
        """
        async with AsyncExitStack() as stack:
            await self._check_database()
            if self._fetcher is not None:
                self._pool = (await stack.enter_async_context(self._fetcher)).pool
            else:
                self._pool = await stack.enter_async_context(self._database.pool(f"worker {self.name}"))
                await self._open_inputs(stack)
            self._queue = FetchQueue(self._pool)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._announce)
                    if self._fetcher is not None:
                        group.start_soon(self._download, self._fetcher)
                    for account, api_key in self._leadable().items():
                        group.start_soon(self._lead, self._make_leader(account, api_key))
                    if until_done:
                        await self._wait_until_done()
                        group.cancel_scope.cancel()
            except BaseExceptionGroup as group_of_errors:
                raise _first_of(group_of_errors) from None
            finally:
                self._leaders.clear()
                with anyio.move_on_after(_LEAVE_TIMEOUT, shield=True), suppress(*DATABASE_ERRORS):
                    await self._execute(_DELETE_WORKER, self.name)

    async def _open_inputs(self, stack: AsyncExitStack) -> None:
        """Open the clip store although nothing is downloaded here: it holds local files that requests name."""
        if self._clips is None and (found := await self._execute(_SELECT_STORE)):
            self._clips = clip_store(json.loads(found[0][0]))
        if self._clips is not None:
            stack.push_async_callback(self._clips.aclose)
            await self._clips.prepare()

    async def _check_database(self) -> None:
        try:
            db = await self._database.connect(f"worker {self.name}")
        except DATABASE_ERRORS as error:
            raise describe(error, self._database) from error
        async with db:
            await check(db, self._database)

    def _leadable(self) -> dict[str, str]:
        if self._api_keys and not can_lead():
            if self._role == "submit":
                raise LedgerError("this system has no CLOCK_BOOTTIME, so a worker cannot lead here", permanent=True)
            _log.warning("this system has no CLOCK_BOOTTIME: this worker only downloads")
            return {}
        return self._api_keys

    async def _download(self, fetcher: Fetcher) -> None:
        await self._queue.run(fetcher, concurrency=self._downloads, heartbeat=self._lease_seconds)

    def _make_leader(self, account: str, api_key: str) -> Leader:
        shared: dict[str, Any] = self._settings | {"clips": self._clips, "queue": self._queue}
        leader = Leader(self._database, account, self.name, api_key=api_key, **shared)
        self._leaders.append(leader)
        return leader

    async def _lead(self, leader: Leader) -> None:
        try:
            await leader.run()
        except OmniError as error:
            self.stop_errors[leader.account] = str(error)
            self._leaders.remove(leader)
            if not self._leaders:
                raise
            _log.error("this worker cannot lead the account %s: %s", leader.account, error)

    # What others see of it

    async def _announce(self) -> None:
        """Keep the row of this worker up to date. Raise `LedgerError` if the tables become those of another version."""
        count = 0
        await self._try(_DELETE_KILLED_WORKERS)
        while True:
            now, host = self.statistics(), socket.gethostname()
            program = (self.name, host, os.getpid(), self._role, _version())
            await self._try(_UPDATE_WORKER, *program, list(now.leads), now.fetching, now.fetched, now.bytes)
            if self._fetcher is not None:
                await self._try(_RECORD_STORE, json.dumps(self._fetcher.clips.address), count == 0)
            count += 1
            if count % _VERSION_CHECK == 0 and not self._is_away:
                await self._check_version()
            await anyio.sleep(_ANNOUNCE_INTERVAL)

    async def _check_version(self) -> None:
        try:
            async with self._pool.connection(timeout=_STATEMENT_TIMEOUT) as db:
                await check(db, self._database)
        except (*DATABASE_ERRORS, LedgerError) as error:
            failure = describe(error, self._database)
            if failure.permanent:
                raise failure from None

    async def _try(self, text: str, *values: object) -> None:
        """Execute a statement that may also be left out. Report an outage of the database once, and its end."""
        try:
            await self._execute(text, *values)
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise describe(error, self._database) from error
            self._report_database(describe(error, self._database))
        else:
            self._report_database(None)

    def _report_database(self, failure: LedgerError | None) -> None:
        """Report an outage of the database once, and its end, unless a candidate or leader does."""
        if self._is_away != (failure is not None) and not self._leaders:
            text = f"{failure}. Downloads in progress continue" if failure else "the database answers again"
            _log.warning("%s", text)
        self._is_away = failure is not None

    async def _execute(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        async with self._pool.connection(timeout=_STATEMENT_TIMEOUT) as db:
            return await _rows(db, text, values)

    # The end

    async def _wait_until_done(self) -> None:
        while True:
            await anyio.sleep(_DONE_CHECK_INTERVAL)
            try:
                sums = await self._execute(_SUMS)
            except DATABASE_ERRORS as error:
                if not is_transient(error):
                    raise describe(error, self._database) from error
                continue
            left = {account: Remaining(*rest) for account, *rest in sums}
            mine = {account: left[account] for account in left if account in self._api_keys or self._role == "download"}
            if not any(remaining.has_work(self._role) for remaining in mine.values()):
                self.stop_errors |= {account: mine[account].stopped for account in mine if mine[account].waiting}
                return


async def _rows(db: PostgresConnection, text: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    with cut_after(_STATEMENT_TIMEOUT, db):
        cursor = await db.execute(statement(text), values)
        return await cursor.fetchall() if cursor.description else []


def _validate(role: str, store: object, api_keys: Mapping[str, str] | None, lease: float) -> None:
    if role not in get_args(Role):
        raise ValueError(f"role={role!r}: it must be one of {', '.join(get_args(Role))}")
    if store is None and role != "submit":
        raise ValueError("a worker that downloads needs a store: a folder, or a URL such as s3://bucket/prefix")
    if not api_keys and role != "download":
        raise ValueError("a worker that submits needs an API key (APIMART_API_KEY); role='download' needs none")
    for account in api_keys or ():
        validate_account(account)
    if not 1 <= lease <= 3600:
        raise ValueError(f"lease={lease!r}: it must be a number of seconds from 1 to 3600")


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _version() -> str:
    try:
        return version("omni-async")
    except PackageNotFoundError:  # run from a checkout
        return ""
