"""`Leader`: leads one account whenever it can, with a `LeaderClient` that submits and polls.

Its jobs come from a queue, which is the part of the table of jobs that is ready to be submitted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..client.credentials import validate_api_key, validate_base_url
from ..errors import LedgerError, OmniError, RateLimited, ServerError, SubmitWithheld, TransportError
from ..logs import get_logger
from ..settings import Limits
from .job_feed import JobFeed
from .leader_client import LeaderClient
from .postgres.lease import Account, Lease, Turn
from .sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api.connection import Connection
    from ..jobs.events import JobEvent
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

_log = get_logger(__name__)


class SubmissionsHeld(OmniError):
    """Submits of an account are held back because a person has asked for it, or has to decide something."""


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
        self.account: str = account
        self.stopped: str = ""  # why nothing is submitted
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
            self.stopped = lease.stopped = str(client.stop_error or feed.stopped)
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
