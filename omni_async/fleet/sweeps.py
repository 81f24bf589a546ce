"""`Sweeps`: finds in the table what a leader has to do besides submitting and polling, and what got lost.

Each of these queries reads a partial index that holds little: what is in flight, or wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from ..api.outcomes import CheckOutcome, classify_check
from ..errors import LedgerError, TransportError
from ..ledger.row_format import from_row
from ..logs import get_logger
from .postgres.rows import DEFER, LOST, SELECT, STILL_DOWNLOADING, column_of

if TYPE_CHECKING:
    from ..jobs.records import JobRecord
    from ..models.responses import Video
    from .fetch_queue import FetchQueue
    from .job_feed import JobFeed, SubmittingClient
    from .postgres.database import PostgresConnection
    from .postgres.store import PostgresJobStore

_PAGE = 1000
# Seconds after which a `downloading` row without a task has lost it.
_LOST_AFTER = 5.0
# The share of the time for which lost downloads are searched. Submits wait for it, 0.3 s if 100,000 downloads wait. At
# half, a lost one is found later; at double, submits lose twice as much time. Chosen, not measured.
_MAX_SHARE = 0.05
_ROUND_INTERVAL = 2.0  # seconds between two rounds of the sweeps: twice as long makes a lost download wait longer
_MAX_TOTALS_ROWS = 500  # rows of omni_totals that are replaced by their sums
_CHILDREN = 1000  # parents that are checked in one round
_FIRST_CHECK, _LONGEST_CHECK = 5.0, 300.0  # seconds between two checks of one task for fresh links
# Checks for fresh links in one round of the sweeps, all at the same time. At half, many expired links take twice as
# long to be replaced; at double, these checks compete with those of running tasks. Chosen, not measured.
_CHECKS = 16
# Checks of one task before a denied one that is final: a gateway whose database is away calls a good key invalid. At
# half, that ends downloads; at double, a key that was revoked is tried for minutes more. Chosen, not measured.
_DENIED_BEFORE = 3

_log = get_logger(__name__)


@dataclass
class _Refresh:
    """The checks of one task for fresh links: since when, how many, and when the next one is due."""

    since: float
    checks: int = 0
    due: float = 0.0


class Sweeps:
    """Finds in the table what is to be done, and what got lost."""

    def __init__(
        self,
        client: SubmittingClient,
        store: PostgresJobStore,
        feed: JobFeed,
        queue: FetchQueue | None,
        *,
        lease_seconds: float,
    ) -> None:
        self._client = client
        self._store = store
        self._feed = feed
        self._queue = queue
        self._lease_seconds = lease_seconds
        self._refreshes: dict[str, _Refresh] = {}
        self._last_parent = ""
        self._lost_due = float("-inf")  # when lost downloads are searched for again
        self.failure: LedgerError | None = None

    async def run(self) -> None:
        """Make round after round until cancelled, or until the store fails: `failure` then says why.

        It is separate from the feed: the engine has a connection of its own, which may hang while submits continue.
        """
        try:
            while True:
                await self._make_round()
                await anyio.sleep(_ROUND_INTERVAL)
        except LedgerError as error:
            self.failure = error

    async def _make_round(self) -> None:
        await self._cancel_wanted()
        await self._feed.take_up_forgotten()
        await self._refresh_links()
        if anyio.current_time() >= self._lost_due:
            await self._store.fenced(self._defer_lost)
        await self._store.fenced(self._release_children)
        await self._store.fenced(self._compact_totals)
        if self._queue is not None:
            await self._queue.sweep(self._lease_seconds)

    async def _cancel_wanted(self) -> None:
        """Cancel the jobs that somebody wants cancelled: here if they are live, else in their rows."""
        account = self._store.account
        wanted = await self._feed.select(
            f"SELECT key FROM omni_jobs WHERE account = %s AND cancel_wanted LIMIT {_PAGE}",
            (account,),
        )
        keys = [key for (key,) in wanted]
        for key in keys:
            if (state := self._client.live(key)) is not None:
                self._client.cancel(state)

        async def finish(db: PostgresConnection) -> None:
            await db.execute(
                "UPDATE omni_jobs SET status = 'cancelled', finished_at = extract(epoch FROM now())::float8,"
                " error = format('job ''%%s'' was cancelled%%s', key, CASE WHEN task_id IS NULL THEN '' ELSE"
                " '; the server continues with its task and bills it' END), changed_at = clock_timestamp()"
                " WHERE account = %s AND key = ANY(%s) AND cancel_wanted"  # it may be retried by now
                " AND status IN ('waiting', 'running', 'timed_out', 'downloading', 'download_failed')",
                (account, keys),
            )
            await db.execute(
                "UPDATE omni_jobs SET cancel_wanted = false WHERE account = %s AND key = ANY(%s)"
                " AND status <> 'submitting'",
                (account, keys),
            )
            await db.execute("SELECT omni_release(%s, %s)", (account, keys))

        if keys:
            self._feed.discard(keys)
            await self._store.fenced(finish)

    # Links

    async def _refresh_links(self) -> None:
        """Check the tasks whose links have not worked, and give the jobs to the workers with the fresh ones."""
        rows = await self._feed.select(
            f"{SELECT} WHERE account = %s AND links_wanted AND status = 'downloading' LIMIT {_PAGE}",
            (self._store.account,),
        )
        records = [from_row(row) for row in rows]
        now = anyio.current_time()
        self._refreshes = {
            record.key: self._refreshes.get(record.key) or _Refresh(since=now, due=now) for record in records
        } | {key: each for key, each in self._refreshes.items() if now - each.since < self._client.retry_timeout}
        due = [record for record in records if self._refreshes[record.key].due <= now]
        async with anyio.create_task_group() as group:
            for record in due[:_CHECKS]:
                group.start_soon(self._refresh, record, self._refreshes[record.key])

    async def _refresh(self, record: JobRecord, refresh: _Refresh) -> None:
        assert record.task_id is not None
        now = anyio.current_time()
        refresh.due = now + min(_FIRST_CHECK * 2**refresh.checks, _LONGEST_CHECK)
        refresh.checks += 1
        try:
            response = await self._client.check(record.task_id)
        except TransportError as error:
            reason, result = str(error), None
        else:
            wall = self._client.wall()
            result = classify_check(response, record.task_id, now=wall, requested=record.sent_texts)
            said = result.error or (result.task and result.task.error) or result.outcome.name
            reason = f"there is no working download URL ({record.error}), and a check gave no other: {said}"
        outcome = result.outcome if result is not None else CheckOutcome.INCONCLUSIVE
        is_denied = outcome is CheckOutcome.DENIED and refresh.checks > _DENIED_BEFORE
        is_final = outcome is CheckOutcome.FAILED or is_denied
        is_late = now - refresh.since > self._client.retry_timeout
        task = result.task if result is not None and result.outcome is CheckOutcome.FINISHED else None
        if task is not None and not is_late:
            await self._store.fenced(lambda db: self._give_links(db, record, task.videos))
        elif is_final or is_late:
            await self._store.fenced(lambda db: self._fail_download(db, record, reason))
            self._refreshes.pop(record.key, None)

    async def _give_links(self, db: PostgresConnection, record: JobRecord, videos: tuple[Video, ...]) -> None:
        text = column_of(replace(record, videos=videos), "videos")
        cursor = await db.execute(
            "UPDATE omni_jobs SET videos = %s, links_wanted = false, error = '', changed_at = clock_timestamp()"
            f" {STILL_DOWNLOADING}",
            (text, self._store.account, record.key, record.task_id),
        )
        if cursor.rowcount:
            await db.execute(DEFER, (self._store.account, [record.key]))

    async def _fail_download(self, db: PostgresConnection, record: JobRecord, reason: str) -> None:
        text = f"job {record.key!r} (task {record.task_id}) is finished and paid, but its clip was not stored: {reason}"
        await db.execute(
            "UPDATE omni_jobs SET status = 'download_failed', links_wanted = false, videos = NULL, error = %s,"
            f" changed_at = clock_timestamp() {STILL_DOWNLOADING}",
            (text, self._store.account, record.key, record.task_id),
        )

    # What got lost

    async def _defer_lost(self, db: PostgresConnection) -> None:
        """Give jobs to the workers again whose task is gone, for example because the engine's tables were emptied."""
        account, since = self._store.account, anyio.current_time()
        keys = [key for (key,) in await (await db.execute(LOST, (account, _LOST_AFTER))).fetchall()]
        now = anyio.current_time()
        self._lost_due = now + (now - since) / _MAX_SHARE
        if keys:
            _log.warning("%d download(s) had lost their task; given to the workers again", len(keys))
            await db.execute(DEFER, (account, keys))

    async def _release_children(self, db: PostgresConnection) -> None:
        """Check some parents of waiting jobs again: the parent may have ended in the moment of the enqueue."""
        account = self._store.account
        cursor = await db.execute(
            "SELECT DISTINCT parent FROM omni_jobs WHERE account = %s AND parent > %s AND status = 'waiting'"
            f" AND parent IS NOT NULL AND parent_task_id IS NULL ORDER BY parent LIMIT {_CHILDREN}",
            (account, self._last_parent),
        )
        parents = [parent for (parent,) in await cursor.fetchall()]
        self._last_parent = parents[-1] if len(parents) == _CHILDREN else ""
        if parents:
            await db.execute("SELECT omni_release(%s, %s)", (account, parents))

    async def _compact_totals(self, db: PostgresConnection) -> None:
        """Replace many rows of sums by one for each status."""
        account = self._store.account
        cursor = await db.execute(
            f"SELECT count(*) > {_MAX_TOTALS_ROWS} FROM"
            f" (SELECT FROM omni_totals WHERE account = %s LIMIT {_MAX_TOTALS_ROWS + 1}) AS t",
            (account,),
        )
        if await cursor.fetchone() == (True,):
            await db.execute(
                "WITH gone AS (DELETE FROM omni_totals WHERE account = %s RETURNING *) INSERT INTO omni_totals"
                " SELECT account, status, sum(jobs), sum(submits), sum(ambiguous_submits), sum(possibly_paid_twice),"
                " sum(cost), sum(credits), sum(priced), sum(unpriced) FROM gone GROUP BY account, status",
                (account,),
            )
