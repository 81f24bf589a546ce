"""`Leader`: leads one account whenever it can, with an `OmniClient` over its rows that submits and polls.

Its jobs come from a queue, which is the part of the table of jobs that is ready to be submitted. The client is the one
that everybody uses: the same limiter, money rules and polling. Three of its parts differ: the store; the transport,
which sends a submit only while the lease is held; and the delivery, which leaves downloads to all workers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from ..api.http import HttpTransport
from ..client.client import OmniClient
from ..client.credentials import validate_api_key, validate_base_url
from ..errors import LedgerError, OmniError, RateLimited, ServerError, SubmitWithheld, TransportError
from ..jobs.job import Job, JobState
from ..jobs.lifecycle import JobStatus
from ..logs import get_logger
from ..settings import Limits
from .job_feed import JobFeed
from .postgres.lease import Account, Lease, Turn
from .postgres.store import PostgresJobStore
from .sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api.connection import Connection
    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..client.runtime import ClientRuntime
    from ..downloads.delivery import Delivery
    from ..jobs.events import JobEvent
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from ..jobs.statistics import Statistics
    from ..settings import Polling, Retry
    from .clips import SpooledClipStore
    from .fetch_queue import FetchQueue
    from .postgres.database import Database


# Seconds between two checks of the lease, the row of the account and the queue. Each costs microseconds, and a query
# where there is room for more jobs.
_TICK = 0.25
# Jobs that wait in the leader's memory: enough for a few seconds of the fastest account. More makes a takeover read
# more rows again; less leaves a fast account waiting for the next query.
_AHEAD = 400
# Seconds after which submits that an outage has stopped are tried again. A person is not asked: nothing was refused.
_OUTAGE_PAUSE = 30.0
_REPLACE_AFTER = 1.0  # seconds before a client that has failed is replaced
_HAND_OVER_TIMEOUT = 2.0  # seconds that handing over may take when the worker ends

# The fact that holds the whole state of the rate limiter, as of the last group of changes.
_LIMITER_FACT = "limiter"

_log = get_logger(__name__)


class SubmissionsHeld(OmniError):
    """Submits of an account are held back, because a person said so or has to say something."""


class _LeaveClient(Exception):
    """Leave the block of a client, which then stops within seconds."""


class Leader:
    """Leads one account in turn with the other workers. `run` works until cancelled.

    `turn` is shared by the leaders of one worker. `clips` is where local files of requests are; `queue` is swept for
    tasks of workers that have gone silent.
    """

    def __init__(
        self,
        database: Database,
        account: str,
        worker: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        lease_seconds: float = 10.0,
        connection: Connection | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        polling: Polling | None = None,
        on_event: Callable[[JobEvent], object] | None = None,
        clips: SpooledClipStore | None = None,
        queue: FetchQueue | None = None,
        turn: Turn | None = None,
    ) -> None:
        server = validate_base_url(base_url, allow_insecure=connection is not None and connection.allow_insecure)
        key = validate_api_key(api_key, server)
        self.account = account
        self.stopped = ""  # why nothing is submitted
        self._database = database
        self._queue = queue
        self._clips = clips
        self._lease_seconds = lease_seconds
        self._make_lease: Callable[[], Lease] = partial(
            Lease, database, account, worker, server=server, api_key=key, seconds=lease_seconds
        )
        self._limits = limits or Limits()
        self._settings: dict[str, Any] = {"api_key": key, "base_url": server, "connection": connection}
        self._settings |= {"retry": retry, "polling": polling, "on_event": on_event}
        self._turn = turn
        self._lease: Lease | None = None
        self._client: LeaderClient | None = None

    @property
    def is_leading(self) -> bool:
        """Whether this worker leads the account now, as far as it knows."""
        return self._lease is not None and not self._lease.is_lost

    def statistics(self) -> Statistics | None:
        """Return the totals of the present client; None while another worker leads."""
        return self._client.statistics() if self._client is not None else None

    async def run(self) -> None:
        """Lead the account whenever no other worker does, until cancelled. Then hand over immediately.

        Raise `LedgerError` if this worker never can: see `Lease.acquire`.
        """
        while True:
            lease = self._make_lease()
            try:
                await lease.acquire(self._turn)
                _log.info("this worker leads the account %s now (epoch %d)", self.account, lease.epoch)
                self._lease = lease
                await self._lead(lease)
                _log.info("another worker leads the account %s now", self.account)
            finally:
                self._lease, self._client, self.stopped = None, None, ""
                with anyio.move_on_after(_HAND_OVER_TIMEOUT, shield=True):
                    await lease.release()

    async def _lead(self, lease: Lease) -> None:
        """Work under one lease until it is lost."""
        async with anyio.create_task_group() as group:
            group.start_soon(lease.keep)
            while not lease.is_lost:
                try:
                    await self._run_client(lease)
                except LedgerError as error:
                    if not lease.is_lost:
                        if lease.stopped != str(error):
                            _log.error("the account %s: %s", self.account, error)
                        self.stopped = lease.stopped = str(error)
                        await anyio.sleep(_REPLACE_AFTER)
            group.cancel_scope.cancel()

    async def _run_client(self, lease: Lease) -> None:
        """Work with one client: until the lease is lost, the client fails, or its cost limit has changed."""
        max_cost = lease.row.cost_limit if lease.row.cost_limit is not None else self._limits.max_cost
        limits = replace(self._limits, max_cost=max_cost)
        client = LeaderClient(lease, self._database, limits=limits, **self._settings)
        try:
            async with client:
                self._client = client
                await self._work(client, lease)
                raise _LeaveClient
        except _LeaveClient:
            pass

    async def _work(self, client: LeaderClient, lease: Lease) -> None:
        feed = JobFeed(client, client.store, self._clips, ahead=_AHEAD)
        sweeps = Sweeps(client, client.store, feed, self._queue, lease_seconds=self._lease_seconds)
        await client.restore_limiter()
        self._hold_or_submit(client, lease)
        await feed.take_up_active()
        failure: OmniError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(sweeps.run)
            try:
                await self._feed(client, lease, feed, sweeps)
            except LedgerError as error:  # raised outside of the group, which would wrap it
                failure = error
            group.cancel_scope.cancel()
        failure = failure or sweeps.failure or client.stop_error
        if client.is_over and not isinstance(failure, LedgerError):
            failure = LedgerError("the client of the leader has failed, and is replaced")
        if isinstance(failure, LedgerError):
            raise failure

    async def _feed(self, client: LeaderClient, lease: Lease, feed: JobFeed, sweeps: Sweeps) -> None:
        """Give the client what is to be submitted, until the lease is lost, or the client has to be replaced."""
        account, outage_ends = lease.row, None
        while not (lease.is_lost or client.is_over or lease.row.cost_limit != account.cost_limit):
            self._hold_or_submit(client, lease)
            now, error = anyio.current_time(), client.stop_error
            if isinstance(error, LedgerError) or sweeps.failure is not None:
                return
            if lease.row.resumes != account.resumes:
                _log.info("submits of the account %s are resumed", self.account)
                account = lease.row
                client.submit_again()
                await feed.restart(with_ended=True)
            elif isinstance(error, SubmitWithheld) or (outage_ends is not None and now >= outage_ends):
                client.submit_again()
                await feed.restart()
            outage_ends = (outage_ends or now + _OUTAGE_PAUSE) if is_outage(client.stop_error) else None
            self.stopped = lease.stopped = str(client.stop_error or "")
            if client.stop_error is None:
                await feed.fill()
            await anyio.sleep(_TICK)

    def _hold_or_submit(self, client: LeaderClient, lease: Lease) -> None:
        """Hold submits back if the row of the account says so, and no longer when it does not."""
        reason = reason_to_hold(lease.row)
        error = client.stop_error
        if reason and error is None:
            client.hold(SubmissionsHeld(reason))
        elif not reason and isinstance(error, SubmissionsHeld):
            client.submit_again()


def is_outage(error: OmniError | None) -> bool:
    """Return whether submits have stopped for a reason that may pass without intervention."""
    if isinstance(error, TransportError):
        return not error.permanent
    return isinstance(error, (RateLimited, ServerError))


def reason_to_hold(account: Account) -> str:
    """Return why nothing is to be submitted, going by the row of the account; "" if nothing keeps from it."""
    if account.is_elsewhere:
        return (
            "the database is not the one that this account was used in last: a replica was promoted, or a backup was "
            f"restored (timeline {account.timeline} then, {account.present_timeline} now). Submits that were recorded "
            "last may be missing, and would be paid again. Check that nothing is missing, then run `omni-async fleet "
            "resume --confirm-failover`"
        )
    if account.state == "running":
        return ""
    return f"the account is {account.state}: `omni-async fleet resume` lets it submit again"


class LeaderClient(OmniClient):
    """The client of a leader, under one lease."""

    store: PostgresJobStore

    def __init__(self, lease: Lease, database: Database, **settings: Any) -> None:
        self._lease = lease
        self._database = database
        self._present: ClientRuntime | None = None
        super().__init__(ledger=None, **settings)

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return LeasedTransport(self._lease, base_url, api_key, connection=self._connection)

    def _make_store(self) -> PostgresJobStore:
        lease = self._lease
        self.store = PostgresJobStore(
            self._database,
            lease.account,
            epoch=lease.epoch,
            timeline=lease.row.present_timeline,
            on_fenced=lease.lose,
        )
        return self.store

    def _make_delivery(self, registry: JobRegistry) -> Delivery:
        return HandOver(registry)

    def _make_runtime(self) -> ClientRuntime:
        self._present = runtime = super()._make_runtime()
        self.store.before_commit = self._save_limiter
        return runtime

    def _save_limiter(self) -> None:
        """Record the present state of the rate limiter, with the rows that are about to be written."""
        snapshot = self._runtime.submitter.limiter.snapshot(self._clock.now())
        fact = {"server": self._server, "at": self._clock.wall(), "snapshot": snapshot}
        self.store.set_fact(_LIMITER_FACT, json.dumps(fact))

    async def restore_limiter(self) -> None:
        """Continue with the rate limiter of the leader before, as if that had been this one. Call it before any submit.

        Raise `LedgerError` if the store cannot be read.
        """
        text = await self.store.get_fact(_LIMITER_FACT)
        try:
            fact = json.loads(text or "{}")
            if fact.get("server") == self._server:
                age = max(0.0, self._clock.wall() - fact["at"])
                self._runtime.submitter.limiter.restore(fact["snapshot"], self._clock.now() - age)
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # not written by this version
            _log.info("the limits of the account are learned again: %r", error)

    @property
    def _runtime(self) -> ClientRuntime:
        assert self._present is not None, "the client is open"
        return self._present

    @property
    def is_over(self) -> bool:
        """Whether the client has failed and does nothing any more."""
        return self._runtime.is_closed

    @property
    def waiting(self) -> int:
        """How many jobs wait for a submit, or are being submitted."""
        return sum(job.status in {JobStatus.WAITING, JobStatus.SUBMITTING} for job in self._runtime.registry.live())

    def take_up(self, record: JobRecord) -> None:
        """Continue a job where its row says, unless it is live."""
        if self._runtime.registry.find(record.key) is None and not self.is_over:
            state = JobState(record)
            Job(self, state)
            self._runtime.dispatcher.resume(state)

    def live(self, key: str) -> JobState | None:
        """Return the live job of a key."""
        return self._runtime.registry.find(key)

    def hold(self, reason: OmniError) -> None:
        """Stop submitting."""
        self._runtime.submitter.stop(reason)

    def submit_again(self) -> None:
        """Submit again after a stop. Jobs that waited then come from their rows."""
        self._runtime.submitter.resume()

    @property
    def retry_timeout(self) -> float:
        """For how many seconds a failing request is repeated."""
        return self._retry.timeout

    def wall(self) -> float:
        """Return the wall-clock time in unix seconds."""
        return self._clock.wall()

    async def check(self, task_id: str) -> Response:
        """Return the reply to one check of a task. Raise `TransportError`."""
        self._runtime.registry.totals.count("checks")
        return await self._transport.check(task_id)


class LeasedTransport(HttpTransport):
    """Sends a submit only while the lease is held: asked once more when the connection is ready."""

    def __init__(self, lease: Lease, base_url: str, api_key: str, *, connection: Connection | None) -> None:
        super().__init__(base_url, api_key, connection=connection)
        self._lease = lease

    async def submit(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """POST a request for a new task, if this worker leads. Raise `SubmitWithheld` if it does not any more."""
        if not await self._lease.wait_until_held():
            raise SubmitWithheld("the submit was withheld: another worker leads the account now")
        return await super().submit(body, idempotency_key, on_sent=on_sent, may_send=self._lease.is_held)


class HandOver:
    """The `Delivery` port: finished jobs are downloaded by any worker.

    The store has given them to the workers when it recorded them as `downloading`, so that nothing is left to do here.
    """

    mean_seconds: float | None = None
    concurrency: int = 1  # of no meaning without a duration
    learned_concurrency: int | None = None

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry

    async def open(self) -> None:
        """Do nothing: workers know where the clips are."""

    async def prepare(self) -> None:
        """Do nothing: workers check their clip store."""

    def add(self, job: JobState) -> None:
        """Forget a job: it is not counted as downloading here."""
        self._registry.totals.discard(job.key)
        self._registry.resolve(job, Path(job.key))

    async def run(self) -> None:
        """Do nothing until cancelled."""
        await anyio.sleep_forever()
