"""Downloads of a fleet: one task of procrastinate for each finished job, done by any worker.

The row of a job says what is to be done; a task only wakes a worker up. So a task may be lost, or be done twice, by two
workers at the same time: the leader's sweep defers a lost one again, and the second of two publishes the same bytes and
changes nothing in the row. Tasks never submit anything.

Two faults of procrastinate 3.10 are avoided here: a job with a lock or queueing lock cannot always be retried, so there
are none; and a worker whose heartbeat has failed once sends no more of them, so its queries are repeated until the
database answers.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import procrastinate
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager

from ..logs import get_logger
from ..timing import cancel_and_wait
from .postgres.database import RAISED, is_transient
from .postgres.rows import QUEUE, TASK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from procrastinate.jobs import Job as EngineJob

    from .fetcher import Fetcher
    from .postgres.database import PostgresPool
    from .storage_pause import StoragePause


_T = TypeVar("_T")

_log = get_logger(__name__)

# Seconds between two queries for a task while there is none. At half, twice as many queries of each idle worker; at
# double, a clip comes half a second later. Chosen, not measured.
_POLL_INTERVAL = 0.5
# Seconds before a query is repeated, and before the engine is started again: twice as many each time that it stops, up
# to the longest wait.
_RETRY_INTERVAL, _LONGEST_WAIT = 0.5, 10.0
# Seconds until a failed task is tried again: 5, 10, 20, ..., at most 300.
_FIRST_RETRY, _LONGEST_RETRY = 5, 300


def retry_seconds(error: BaseException, attempts: int) -> int:
    """Return after how many seconds a task that has failed is tried again, `attempts` times having failed before."""
    if isinstance(error, asyncio.CancelledError):  # its worker ends: others take it immediately
        return 0
    return int(min(_FIRST_RETRY * 2 ** min(attempts, 16), _LONGEST_RETRY))


class _Retry(BaseRetryStrategy):
    """Every failed task is tried again: the fetcher itself decides when a job has failed."""

    def get_retry_decision(self, *, exception: BaseException, job: EngineJob) -> RetryDecision:
        return RetryDecision(retry_in={"seconds": retry_seconds(exception, job.attempts)})


def register(app: App, fetcher: Fetcher) -> None:
    """Add the task that downloads clips to an `App` of procrastinate, also to one that does other work already.

    Its worker must serve the queue ``omni_fetch`` (or all queues), and run while `fetcher` is entered::

        fetcher = Fetcher(Database("postgresql://..."), clip_store("/mnt/clips"), worker="web-1")
        register(app, fetcher)
        async with app.open_async(), fetcher:
            await app.run_worker_async(concurrency=8, delete_jobs="successful")

    The app must use the database and the schema of the fleet. The names of workers must differ.
    """

    @app.task(name=TASK, queue=QUEUE, pass_context=True, retry=_Retry())
    async def fetch(context: JobContext, *, account: str, key: str) -> None:
        await fetcher.fetch(account, key, attempt=context.job.attempts)


class FetchQueue:
    """The tasks of one worker. `pool` is a pool of connections that the worker shares with it."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._connector = _PatientConnector()
        self.app: App = App(connector=self._connector)
        self._manager = _PausingJobManager(self._connector)
        self.app.job_manager = self._manager

    async def run(self, fetcher: Fetcher, *, concurrency: int, heartbeat: float) -> None:
        """Do tasks until cancelled. Unfinished ones are then given back, for other workers to take immediately.

        `heartbeat` is the number of seconds after which others may take the tasks of a worker that has gone silent.
        """
        register(self.app, fetcher)
        self._manager.pause = fetcher.pause
        await self.app.open_async(self._pool)
        wait = _RETRY_INTERVAL
        while True:
            engine = asyncio.create_task(self._run_engine(concurrency, heartbeat), name="omni_async fetch queue")
            try:
                await asyncio.wait({engine})
            finally:
                if not engine.done():
                    await self._stop(engine)
            _log.warning(
                "the queue of downloads has stopped: %s. It is started again", engine.exception() or "no reason"
            )
            await anyio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _run_engine(self, concurrency: int, heartbeat: float) -> None:
        await self.app.run_worker_async(
            queues=[QUEUE],
            concurrency=concurrency,
            fetch_job_polling_interval=_POLL_INTERVAL,
            listen_notify=False,  # polling is enough, and needs no connection of its own beside a pooler
            install_signal_handlers=False,
            shutdown_graceful_timeout=0,
            update_heartbeat_interval=heartbeat / 4,
            stalled_worker_timeout=heartbeat,
            delete_jobs="always",  # the row of the job says what has become of it
        )

    async def _stop(self, engine: asyncio.Task[None]) -> None:
        """Let the engine give its tasks back. It is in a hurry: without a database it is left to the heartbeat."""
        self._connector.is_closing = True
        await cancel_and_wait([engine])
        if not engine.cancelled() and (error := engine.exception()) is not None:
            _log.info("the queue of downloads could not give its tasks back: %s", error)

    async def sweep(self, heartbeat: float) -> int:
        """Give the tasks of workers that have gone silent to others. Return how many there were."""
        await self.app.open_async(self._pool)
        manager = self.app.job_manager
        stalled = list(await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=heartbeat))
        for job in stalled:
            with suppress(ConnectorException):  # it is finished by now, or another sweep was faster
                await manager.retry_job(job)
        return len(stalled)


class _PausingJobManager(JobManager):
    """Takes no task while the worker cannot keep clips. Those in progress continue."""

    pause: StoragePause | None = None

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> EngineJob | None:
        """Take a task if there is one, and this worker is not pausing."""
        if self.pause is not None and not self.pause.take(asyncio.get_running_loop().time()):
            return None
        job = await super().fetch_job(queues, worker_id)
        if self.pause is not None and job is None:
            self.pause.on_ended()
        return job


class _PatientConnector(PsycopgConnector):
    """Repeats every query until the database answers, so that the engine survives an outage without noticing.

    A query whose answer was lost may be carried out twice. For the engine's queries that does no harm: at worst a task
    is left to the heartbeat.
    """

    is_closing = False

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        """Execute a query without a result. A task that is gone need not be finished or given back."""
        try:
            await self._repeat(lambda: PsycopgConnector.execute_query_async(self, query, **arguments))
        except ConnectorException as error:
            if getattr(error.__cause__, "sqlstate", None) != RAISED:
                raise
            _log.info("a task of the queue of downloads is gone: %s", error.__cause__)

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        """Execute a query with one row."""
        return await self._repeat(lambda: PsycopgConnector.execute_query_one_async(self, query, **arguments))

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        """Execute a query with rows."""
        return await self._repeat(lambda: PsycopgConnector.execute_query_all_async(self, query, **arguments))

    async def _repeat(self, query: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                return await query()
            except ConnectorException as error:
                if self.is_closing or error.__cause__ is None or not is_transient(error.__cause__):
                    raise
                _log.info("the queue of downloads waits for the database: %s", error.__cause__)
            await anyio.sleep(_RETRY_INTERVAL)


# What it says about each task at the level of information is said by events and rows already.
logging.getLogger(procrastinate.__name__).addHandler(logging.NullHandler())
