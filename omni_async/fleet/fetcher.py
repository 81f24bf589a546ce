"""`Fetcher`: what a worker does with one task of the queue. The clips of one job go into the clip store.

It runs the download stage of a client for a single job. Instead of a ledger there is the job's row, which is changed
once, at the end, and only if it still says that this task's clips are to be downloaded. It needs no API key: the links
are in the row. If they do not work, the leader is asked for others.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import anyio

from ..api.http import HttpTransport
from ..client.credentials import DEFAULT_BASE_URL
from ..downloads.downloader import Downloader
from ..downloads.failures import UNREACHABLE, AttemptFailure
from ..downloads.reports import DownloadReports
from ..errors import DownloadError, JobError
from ..jobs.clip_paths import clip_path
from ..jobs.job import JobState
from ..jobs.lifecycle import JobStatus
from ..jobs.registry import JobRegistry
from ..ledger import MemoryJobStore
from ..logs import get_logger
from ..settings import Limits, Retry
from ..timing import Clock
from .postgres import rows
from .postgres.database import DATABASE_ERRORS, NOTIFY, cut_after, describe, is_transient, statement
from .storage_pause import StoragePause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from ..api.connection import Connection
    from ..api.transport import Transport
    from ..jobs.events import JobEvent
    from ..jobs.records import JobRecord
    from .clips import SpooledClipStore
    from .postgres.database import Database, PostgresConnection, PostgresPool


_T = TypeVar("_T")

_log = get_logger(__name__)

_COMPLETE = f"""
UPDATE omni_jobs SET status = 'completed', paths = %s, finished_at = %s, fetched_by = %s, error = '', videos = NULL,
    links_wanted = false, changed_at = now() {rows.STILL_DOWNLOADING}
"""
_FAIL = f"""
UPDATE omni_jobs SET status = 'download_failed', error = %s, videos = NULL, links_wanted = false, changed_at = now()
{rows.STILL_DOWNLOADING}
"""
_WANT_LINKS = f"UPDATE omni_jobs SET links_wanted = true, error = %s, changed_at = now() {rows.STILL_DOWNLOADING}"
# How often a job's task may fail for reasons of this worker or of the clip store (no space, no permission) before the
# job is `download_failed`. The waits of the queue (`retry_seconds`) and the attempts of the store take five minutes
# until then.
_ATTEMPTS = 6
_STATEMENT_TIMEOUT = 15.0  # seconds that a statement may take before its connection is cut
_RETRY_INTERVAL = 0.5  # seconds until a statement is repeated while the database is unreachable
_NOTIFY_INTERVAL = 0.1  # seconds: each commit with a notification takes a lock of the whole Postgres


class LinksWanted(JobError):
    """The links of a job do not work, and only the leader can get others."""


@dataclass(slots=True)
class FetchTotals:
    """What a worker does and has done: downloads in progress, jobs completed, bytes received."""

    fetching: int = 0
    fetched: int = 0
    bytes: int = 0


class Fetcher:
    """Downloads the clips of single jobs. Enter it in the event loop in which it is used.

    ``worker`` is the name that rows of jobs get as ``fetched_by``. ``retry`` says for how long a download without
    progress is retried. ``on_event`` gets the events of these downloads. ``connections`` is how many connections to
    the database it opens at most.
    """

    def __init__(
        self,
        database: Database,
        clips: SpooledClipStore,
        *,
        worker: str,
        connection: Connection | None = None,
        retry: Retry | None = None,
        on_event: Callable[[JobEvent], object] | None = None,
        connections: int = 4,
    ) -> None:
        self.totals: FetchTotals = FetchTotals()
        self.clips = clips
        self.pool: PostgresPool  # from entering on
        self._database = database
        self._worker = worker
        self._connection = connection
        self._retry = retry or Retry()
        self._on_event = on_event
        self._connections = connections
        self._clock = Clock()
        self._reports = DownloadReports(self._retry)
        self._transports: dict[str, Transport] = {}
        self._notified: dict[str, float] = {}
        self.pause: StoragePause = StoragePause()
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.clips.aclose)
            await self.clips.prepare()
            pool = self._database.pool(f"fetch {self._worker}", max_size=self._connections)
            self.pool = await stack.enter_async_context(pool)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transports.clear()
        with anyio.CancelScope(shield=True):
            await self._exit.aclose()

    async def fetch(self, account: str, key: str, *, attempt: int = 0) -> None:
        """Download the clips of a job if that is still to be done, and record it in its row.

        Raise `DownloadError` or `JobError` if it is worth another attempt later: `attempt` counts those that failed.
        """
        record = await self._transact(lambda db: _read_job(db, account, key))
        if record is None or record.status is not JobStatus.DOWNLOADING or record.task_id is None:
            return
        self.totals.fetching += 1
        try:
            job = await self._download(account, record)
        finally:
            self.totals.fetching -= 1
            self.pause.on_ended()
        self._note_storage(job.outcome)
        await self._record(account, job, attempt)

    async def _download(self, account: str, record: JobRecord) -> JobState:
        """Return the job with its outcome. Whatever is cancelled or fails here, no transfer continues afterwards."""
        names = _ClaimedNames(self, account)
        registry = JobRegistry(names, self._on_event, self._clock, partial(clip_path, self.clips.root))
        # What another worker has recorded of its disk says nothing about this one.
        job = JobState(replace(record, partial_download=None))
        downloader = Downloader(
            await self._transport(account),
            registry,
            self.clips,
            limits=Limits(max_downloads=1),
            retry=self._retry,
            urls=_LinksOfLeader(registry),
            reports=self._reports,
        )
        registry.add(job)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(downloader.run)
                downloader.add(job)
                await job.wait_done()
                group.cancel_scope.cancel()
        finally:
            self.totals.bytes += registry.totals.bytes_downloaded
        return job

    def _note_storage(self, outcome: object) -> None:
        """Pause if this worker could not keep a clip. Tell the user once, and once that it can again."""
        was_failing = self.pause.is_failing
        if isinstance(outcome, DownloadError) and isinstance(outcome.__cause__, OSError):
            self.pause.on_failed(self._clock.now())
            if not (was_failing or self.clips.is_failing):  # the store has said the same
                _log.warning("%s. This worker pauses before it tries again; others may store the clip", outcome)
        elif isinstance(outcome, Path):
            self.pause.on_kept()
            if was_failing:
                _log.warning("clips are stored by this worker again")

    async def _record(self, account: str, job: JobState, attempt: int) -> None:
        """Change the row to what has become of a job, unless somebody else has changed it meanwhile."""
        outcome, which = job.outcome, (account, job.key, job.task_id)
        if isinstance(outcome, LinksWanted):
            await self._update(account, _WANT_LINKS, str(outcome), *which)
        elif not isinstance(outcome, BaseException):
            paths = rows.column_of(job.record, "paths")
            is_first = await self._update(account, _COMPLETE, paths, self._clock.wall(), self._worker, *which)
            self.totals.fetched += is_first
        elif attempt + 1 < _ATTEMPTS and _is_worth_retrying(outcome):
            raise outcome
        else:
            # The path of an object in a bucket is not what its users know.
            text = str(outcome).replace(f"{self.clips.root}", self.clips.address)
            await self._update(account, _FAIL, text, *which)

    async def claim_name(self, account: str, key: str, index: int, taken: str) -> str:
        """Return the file name of a video, as `JobStore.claim_filename` does."""
        return await self._transact(lambda db: rows.claim_filename(db, account, key, index, taken))

    async def _transport(self, account: str) -> Transport:
        """Return the connections for links that the API of an account has given. They carry no API key."""
        if account not in self._transports:
            server = await self._transact(lambda db: _read_server(db, account))
            if account not in self._transports:  # another download of the account may have been faster
                transport = self._transports[account] = HttpTransport(server, "", connection=self._connection)
                self._exit.push_async_callback(transport.aclose)
        return self._transports[account]

    async def _update(self, account: str, text: str, *values: object) -> bool:
        """Change a row and tell those who wait for jobs. Return whether the row was changed."""
        changed = await self._transact(lambda db: _change(db, text, values))
        now = time.monotonic()
        if changed and now - self._notified.get(account, -_NOTIFY_INTERVAL) >= _NOTIFY_INTERVAL:
            self._notified[account] = now
            await self._transact(lambda db: db.execute(NOTIFY, (account,)))
        return changed

    async def _transact(self, work: Callable[[PostgresConnection], Awaitable[_T]]) -> _T:
        """Return what work on the database returns. It is repeated until that answers: no clip is lost to an outage."""
        while True:
            try:
                async with self.pool.connection() as db:
                    with cut_after(_STATEMENT_TIMEOUT, db):
                        return await work(db)
            except DATABASE_ERRORS as error:
                if not is_transient(error):
                    raise describe(error, self._database) from error
                _log.info("downloads wait for the database: %s", error)
            await anyio.sleep(_RETRY_INTERVAL)


async def _read_job(db: PostgresConnection, account: str, key: str) -> JobRecord | None:
    return (await rows.find_all(db, account, [key])).get(key)


async def _read_server(db: PostgresConnection, account: str) -> str:
    cursor = await db.execute("SELECT server FROM omni_accounts WHERE account = %s", (account,))
    row = await cursor.fetchone()
    return (row[0] if row else None) or DEFAULT_BASE_URL


async def _change(db: PostgresConnection, text: str, values: Sequence[object]) -> bool:
    cursor = await db.execute(statement(text), values)
    return cursor.rowcount > 0


class _ClaimedNames(MemoryJobStore):
    """What the download stage needs of a ledger: file names that no other job has. Its changes are not kept."""

    def __init__(self, fetcher: Fetcher, account: str) -> None:
        super().__init__()
        self._fetcher = fetcher
        self._account = account

    async def claim_filename(self, key: str, index: int, *, taken: str = "") -> str:
        """Return the file name of a video."""
        return await self._fetcher.claim_name(self._account, key, index, taken)


class _LinksOfLeader:
    """The `UrlSource` of a worker: it has no API key, so the download ends, and the leader is asked."""

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry

    def has_expired(self, job: JobState, index: int) -> bool:
        """Return False: this machine's clock may be wrong, and the host knows better."""
        return False

    async def refresh(
        self, job: JobState, index: int = 0, failure: AttemptFailure | None = None
    ) -> AttemptFailure | None:
        """End the download of a job whose link was refused. A host that cannot be reached is tried again."""
        if failure is not None and failure.kind == UNREACHABLE:
            return None
        reason = failure.reason if failure is not None else "its row names no link"
        text = f"job {job.key!r} needs a fresh download URL: {reason}"
        self._registry.resolve(job, LinksWanted(text, key=job.key, task_id=job.task_id))
        return AttemptFailure(reason, needs_url=True, is_final=True, is_check=True)


def _is_worth_retrying(outcome: BaseException) -> bool:
    """Return whether a download has failed for a reason that may pass: one of the store, or one that is not known.

    A host of clips that fails was retried for long enough already.
    """
    return not isinstance(outcome, DownloadError) or isinstance(outcome.__cause__, OSError)
