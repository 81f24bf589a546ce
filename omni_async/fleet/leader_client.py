"""`LeaderClient`: an `OmniClient` over the rows of one account, for as long as one lease is held.

It is the client that everybody uses: the same limiter, money rules and polling. Three of its parts differ: the store,
`PostgresJobStore`; the transport, which sends a submit only while the lease is held; and the delivery, which leaves
downloads to all workers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from ..api.http import HttpTransport
from ..client.client import OmniClient
from ..errors import SubmitWithheld
from ..jobs.job import Job, JobState
from ..jobs.lifecycle import JobStatus
from ..logs import get_logger
from .postgres.store import PostgresJobStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..api.connection import Connection
    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..client.runtime import ClientRuntime
    from ..downloads.delivery import Delivery
    from ..errors import OmniError
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from .postgres.database import Database
    from .postgres.lease import Lease


# The fact that holds the whole state of the rate limiter, as of the last group of changes.
_LIMITER_FACT = "limiter"

_log = get_logger(__name__)


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
        """Whether the client has failed and no longer does anything."""
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

    @property
    def stopped_models(self) -> Mapping[str, OmniError]:
        """The models whose jobs are not submitted, because the server does not serve them, and why."""
        return self._runtime.submitter.models.stopped

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
        """POST a request for a new task, if this worker leads. Raise `SubmitWithheld` if it no longer does."""
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
