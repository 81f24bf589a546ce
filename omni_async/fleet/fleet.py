"""`Fleet`: what programs do with a fleet. They add jobs, wait for their clips, read the sums, pause and resume.

Nothing here submits, polls or downloads a job: workers do (`FleetWorker`). All state is in Postgres.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio

from ..errors import ClientClosed, LedgerError
from ..jobs.store import OUTPUT_DIR
from ..settings import Limits
from .clips import clip_store
from .fleet_job import FleetJob
from .postgres import rows
from .postgres.database import NOTIFY, as_database, described, statement
from .postgres.enqueue import FOLLOW, RELEASE_WAITING, RESUME_LEADER, RETRY, enqueue
from .postgres.reader import DEFAULT_ACCOUNT, FleetReader, copy_to_folder, output_dir_from
from .postgres.schema import check
from .postgres.shared_connection import SharedConnection
from .postgres.statistics import read_statistics
from .postgres.watcher import Watcher
from .requests import RecordFactory, iterate, take, validate_account

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from ..jobs.records import JobRecord
    from .clips import SpooledClipStore
    from .fleet_job import EndedJob
    from .postgres.database import Database, PostgresConnection
    from .postgres.enqueue import EnqueueResult
    from .postgres.reader import DownloadResult
    from .postgres.statistics import FleetStatistics
    from .requests import Requests


class Fleet:
    """A fleet, for programs: adds jobs and waits for them. Workers elsewhere do the work. ::

        async with Fleet("postgresql://...", store="/mnt/clips") as fleet:
            await fleet.enqueue({"fox": "a red fox in the snow"})
            path = await fleet.job("fox")

    Args:
        database: The URL of the database, or a `Database`. Default: the environment variable `OMNI_DATABASE_URL`.
        store: The folder or the address (``s3://...``) of the clips. Default: the one that the workers use. It is
            needed to enqueue requests with local files before there is a worker.
        account: The account whose jobs these are. A database may have jobs of several.

    Raise `ValueError` for an account that cannot be one. Entering it raises `LedgerError` if the database cannot be
    used, and so does every method. `LedgerError.permanent` tells whether waiting is pointless.
    """

    def __init__(
        self,
        database: Database | str | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        account: str = DEFAULT_ACCOUNT,
    ) -> None:
        self.database: Database = as_database(database)
        self.account: str = validate_account(account)
        self._store: SpooledClipStore | None = clip_store(store) if store is not None else None
        self._is_store_ready = False  # files were put into it
        self._connection = SharedConnection(self.database, "fleet")
        self._watcher: Watcher | None = None
        self._is_open = False

    async def open(self) -> Self:
        """Open the fleet and return it: for a web service or a notebook, where no `async with` spans its use.

        Raise `LedgerError` if the database cannot be used.
        """
        if self._is_open:
            raise RuntimeError("this fleet is open already; to open it again, first `await fleet.aclose()`")
        self._is_open = True
        try:
            async with self._statements() as connection:  # raises here what is wrong with the database
                await check(connection, self.database)
        except BaseException:
            self._is_open = False
            raise
        self._watcher = Watcher(self.database, self.account, self._find_all)
        return self

    async def aclose(self) -> None:
        """Close the connections. Everyone who still waits for a job gets `ClientClosed`; the jobs continue elsewhere.

        Calling it twice is harmless.
        """
        if not self._is_open or self._watcher is None:
            return
        self._is_open = False
        with anyio.CancelScope(shield=True):
            closed = ClientClosed("the fleet was closed before the job had ended; it continues elsewhere")
            await self._watcher.stop(closed)
            await self._connection.aclose()
            if self._store is not None:
                await self._store.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # Jobs

    async def enqueue(self, requests: Requests, *, priority: int = 0, batch: str | None = None) -> EnqueueResult:
        """Add the jobs of requests, all or none. What exists already is left as it is, so that a call can be repeated.

        `requests` are prompts and `VideoRequest` objects, whose keys are made from their content; or a dict of them by
        key; or the records that `batch.new_records` makes of a file. Jobs of a higher `priority` are submitted first.
        `batch` is a name for your own statistics.

        Raise `KeyReused` if a key already names another request, `InvalidReference` for a bad local file, `ValueError`
        or `TypeError` for what is no request, no priority (a whole number below 2**31) or no name.
        """
        records = RecordFactory(self._place, self.find).records(requests)
        return await self._enqueue(records, priority=priority, batch=batch)

    def job(self, key: str) -> FleetJob:
        """Return the job of a key, to be awaited. A key that was never enqueued raises `JobError` then."""
        return FleetJob(key, self._wait)

    async def as_completed(self, requests: Requests, *, max_pending: int = 1000) -> AsyncIterator[FleetJob]:
        """Enqueue requests and yield their jobs as they end. At most `max_pending` of them are unfinished at a time.

        Requests are taken as there is room for them. Raise what `enqueue` raises, and `ValueError` for
        a `max_pending` below 1.
        """
        if max_pending < 1:
            raise ValueError(f"as_completed(max_pending={max_pending}): max_pending must be at least 1")
        self._check_open()
        assert self._watcher is not None
        records = RecordFactory(self._place, self.find).records(requests)
        ended: asyncio.Queue[JobRecord | Exception] = asyncio.Queue()
        pending: set[str] = set()
        is_exhausted = False
        try:
            while not is_exhausted or pending:
                if not is_exhausted and (room := max_pending - len(pending)) > 0:
                    taken, is_exhausted = await take(records, room)
                    await self._enqueue(iterate(taken))
                    for key in {record.key for record in taken} - pending:
                        pending.add(key)
                        self._watcher.add(key, ended.put_nowait)
                if pending:
                    record = await ended.get()
                    if isinstance(record, Exception):
                        raise record
                    pending.discard(record.key)
                    job = self.job(record.key)
                    job.record, job.paths = record, await self._paths(record)
                    yield job
        finally:
            for key in pending:
                self._watcher.discard(key, ended.put_nowait)

    async def find(self, key: str) -> JobRecord | None:
        """Return the record of a key; None if there is none."""
        return (await self._find_all([key])).get(key)

    async def cancel(self, key: str) -> bool:
        """Ask the leader to cancel a job, and return whether it exists and has not ended.

        If it was accepted, the server still renders and bills it.
        """
        return rows.is_storable(key) and bool(
            await self._change(
                "UPDATE omni_jobs SET cancel_wanted = true, changed_at = now() WHERE account = %(account)s"
                f" AND key = %(key)s AND status IN ({rows.NOT_ENDED})",
                key=key,
            )
        )

    async def retry(self, *, failed: bool = False, unknown: bool = False) -> int:
        """Let jobs that ended without a clip be submitted again, and return how many.

        `failed` ones were refused, failed or cancelled. `unknown` ones may have been accepted (and billed) by the
        server. Within a day they are sent under their old idempotency key, so that a server that honours it does not
        bill them again; otherwise they may be paid twice. Previous task ids and costs are kept.
        """
        statuses = [*(["failed", "cancelled"] if failed else []), *(["unknown"] if unknown else [])]
        return await self._change(FOLLOW, RETRY, statuses=statuses, is_resumed=True)

    # The fleet

    async def statistics(self, *, all_accounts: bool = False) -> FleetStatistics:
        """Return the sums over all jobs, who leads, what was learned, and what each worker does."""
        async with self._statements() as connection:
            return await read_statistics(connection, None if all_accounts else self.account)

    async def pause(self) -> None:
        """Submit nothing more until `resume`. Accepted jobs are followed and downloaded."""
        await self._set_state("paused")

    async def drain(self) -> None:
        """Submit nothing more, and let the workers that were started with `until_done` end when the rest is done."""
        await self._set_state("draining")

    async def resume(self, *, max_cost: float | None = None) -> None:
        """Submit again: after `pause` and `drain`, and after a stop whose cause is gone (no credit, for example).

        Jobs that timed out, or whose clip could not be stored, are taken up again. `max_cost` is a new limit in USD on
        what all jobs of the account may cost; by default it stays as it is. Raise `ValueError` for what is no amount.
        """
        Limits(max_cost=max_cost)
        await self._set_state("running", is_resumed=True, max_cost=max_cost)

    async def set_max_cost(self, usd: float) -> None:
        """Set the limit of what all jobs of the account may cost, in USD. The leader stops before it is passed.

        Raise `ValueError` for what is no amount.
        """
        Limits(max_cost=usd)
        await self._change(
            "INSERT INTO omni_accounts (account, max_cost) VALUES (%(account)s, %(usd)s)"
            " ON CONFLICT (account) DO UPDATE SET max_cost = excluded.max_cost",
            usd=usd,
        )

    async def forget_key(self) -> None:
        """Accept another API key for the account, because the old one was replaced: that of the next worker.

        The key must belong to the same account: tasks can only be followed with their own account's key.
        """
        await self._change("UPDATE omni_accounts SET key_check = NULL WHERE account = %(account)s")

    async def confirm_failover(self) -> None:
        """Submit again although the database is another one than before: after a failover to a replica, or a restore.

        Call it once you know that nothing committed was lost. Otherwise jobs may be paid twice.
        """
        async with self._statements() as connection:
            await connection.execute("SELECT omni_confirm(%s)", (self.account,))

    async def output_dir(self) -> str | None:
        """Return the folder or the address of the clips; None before any worker."""
        async with self._statements() as connection:
            return output_dir_from(await rows.get_fact(connection, self.account, OUTPUT_DIR))

    async def download(
        self, folder: str | os.PathLike[str], *, on_progress: Callable[[int], object] = lambda _: None
    ) -> DownloadResult:
        """Copy the clips of all jobs that have ended into a folder, and their records into an ordinary ledger there.

        Called again, it adds what has ended since. `on_progress` is called now and then with the number of clips.
        Raise `OSError` if the folder or the clip store cannot be used, `ValueError` if it is not known where the clips
        are: before any worker, without `store`.
        """
        store = await self._find_store()
        if store is None:
            raise ValueError("no worker has stored a clip yet: pass store=... (--store), where the clips are")
        with described(self.database):
            reader = await anyio.to_thread.run_sync(FleetReader, self.database, self.account)
            with reader:
                return await copy_to_folder(reader, Path(folder), store.destination.copy_to, on_progress)

    # Inside

    async def _enqueue(
        self, records: AsyncIterator[JobRecord], *, priority: int = 0, batch: str | None = None
    ) -> EnqueueResult:
        """Add jobs over a connection of its own: a large file takes minutes."""
        self._check_open()
        with described(self.database):
            async with await self.database.connect("enqueue") as connection:
                return await enqueue(connection, self.account, records, priority=priority, batch=batch)

    async def _place(self, path: Path, name: str) -> None:
        """Put a local file into the clip store, from where the leader takes it."""
        store = await self._find_store()
        if store is None:
            raise ValueError(f"{path} is a local file: pass store=... (--store), the clip store to put it into")
        if not self._is_store_ready:
            await store.destination.prepare()
            self._is_store_ready = True
        await store.destination.publish(path, name)

    async def _find_store(self) -> SpooledClipStore | None:
        """Return the clip store: the one given, else that of the workers; None before any worker."""
        if self._store is None and (address := await self.output_dir()) is not None:
            self._store = clip_store(address)
        return self._store

    async def _wait(self, key: str) -> EndedJob:
        self._check_open()
        assert self._watcher is not None
        record = await self._watcher.wait(key)
        return record, await self._paths(record)

    async def _paths(self, record: JobRecord) -> tuple[Path | str, ...]:
        """Return where the clips of a job are."""
        if not record.paths:
            return ()
        store = await self._find_store()
        places = [store.location(name) if store else name for name in record.paths]
        return tuple(place if "://" in place else Path(place) for place in places)

    async def _find_all(self, keys: list[str], *, only_ended: bool = False) -> dict[str, JobRecord]:
        """Return the records of those keys that exist; with `only_ended`, of the jobs that have ended."""
        async with self._statements() as connection:
            return await rows.find_all(connection, self.account, keys, only_ended=only_ended)

    async def _set_state(self, state: str, *, is_resumed: bool = False, max_cost: float | None = None) -> None:
        changed = await self._change(
            "UPDATE omni_accounts SET state = %(state)s, max_cost = coalesce(%(max_cost)s, max_cost)"
            " WHERE account = %(account)s",
            state=state,
            max_cost=max_cost,
            is_resumed=is_resumed,
        )
        if not changed:
            raise LedgerError(f"there is no account {self.account!r} in this database yet", permanent=True)

    async def _change(self, *statements: str, is_resumed: bool = False, **values: Any) -> int:
        """Run statements in one transaction, tell the leader, and return how many rows they have changed.

        With `is_resumed`, the leader reads all jobs again and submits again.
        """
        values["account"] = self.account
        async with self._statements() as connection, connection.transaction():
            changed = sum([(await connection.execute(statement(each), values)).rowcount for each in statements])
            if is_resumed:
                await connection.execute(RELEASE_WAITING, values)
                await connection.execute(RESUME_LEADER, values)
            await connection.execute(NOTIFY, (self.account,))
        return changed

    @asynccontextmanager
    async def _statements(self) -> AsyncIterator[PostgresConnection]:
        """Lend the connection for short statements, one user at a time."""
        self._check_open()
        async with self._connection.lend() as connection:
            yield connection

    def _check_open(self) -> None:
        if not self._is_open:
            raise ClientClosed(
                "the fleet is not open: use it within `async with Fleet(...) as fleet:`, or first `await fleet.open()`"
            )
