"""What a leader does besides submitting and polling: it feeds its client from the table, and sweeps up what got lost.

Each of these queries reads a partial index that holds little: what is ready, in flight, or wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from ..api.outcomes import CheckOutcome, classify_check
from ..errors import LedgerError, TransportError
from ..ledger.row_format import from_row
from ..logs import get_logger
from .postgres.database import statement
from .postgres.rows import DEFER, LOST, SELECT, SELECT_WITH_ID, STILL_DOWNLOADING, column_of
from .requests import has_local_files, with_local_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..api.parsing import Response
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..models.responses import Video
    from .clips import SpooledClipStore
    from .fetch_queue import FetchQueue
    from .postgres.database import PostgresConnection
    from .postgres.store import PostgresJobStore

# The queue of submits, in the order of its index. Parameters: account, the last one read (twice), how many.
FEED = (
    f"{SELECT_WITH_ID.replace('SELECT id', 'SELECT -priority, id')} WHERE account = %s AND status = 'waiting'"
    " AND (parent IS NULL OR parent_task_id IS NOT NULL) AND (-priority, id) > (%s, %s) ORDER BY -priority, id LIMIT %s"
)
_BEGINNING = (-(2**31), 0)
# Seconds after which the queue is read from its beginning again: for jobs of a higher priority, those that were
# enqueued by a slower transaction, and those that came back. More often reads more dead entries of the index.
_RESCAN_INTERVAL = 5.0
_PAGE = 1000
# Seconds after which a `running` row without a live job has been forgotten, and is not just being written.
_FORGOTTEN_AFTER = 2.0
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
_ACTIVE = "status IN ('submitting', 'running', 'downloading', 'timed_out', 'download_failed')"

_log = get_logger(__name__)


class SubmittingClient(Protocol):
    """What is asked of the client of the leader."""

    @property
    def waiting(self) -> int:
        """How many jobs wait for a submit, or are being submitted."""

    @property
    def retry_timeout(self) -> float:
        """For how many seconds a failing request is repeated."""

    def wall(self) -> float:
        """Return the wall-clock time in unix seconds."""

    def live(self, key: str) -> JobState | None:
        """Return the live job of a key."""

    def take_up(self, record: JobRecord) -> None:
        """Continue a job where its row says."""

    def cancel(self, state: JobState) -> bool:
        """Cancel a live job."""

    async def check(self, task_id: str) -> Response:
        """Return the reply to one check of a task. Raise `TransportError`."""


class JobFeed:
    """Takes jobs from the table into a client, as many as it has room for. `ahead` may wait there at a time."""

    def __init__(
        self, client: SubmittingClient, store: PostgresJobStore, clips: SpooledClipStore | None, *, ahead: int
    ) -> None:
        self._client = client
        self._store = store
        self._clips = clips
        self._ahead = ahead
        self._cursor: tuple[int, int] = _BEGINNING
        self._began_at = float("-inf")
        self._outdated: set[str] = set()  # keys whose rows have changed since they were read

    async def take_up_active(self, *, with_ended: bool = False) -> None:
        """Continue what an earlier leader has left in flight; `with_ended`, also what timed out or was not stored."""
        statuses = ["submitting", "running", *(["timed_out"] if with_ended else [])]
        after, account = 0, self._store.account
        while True:
            self._outdated.clear()
            found = await self.select(
                f"{SELECT_WITH_ID} WHERE account = %s AND {_ACTIVE} AND status = ANY(%s) AND id > %s ORDER BY id"
                f" LIMIT {_PAGE}",
                (account, statuses, after),
            )
            for row in found:
                await self._take_up(row[1:])
            if len(found) < _PAGE:
                break
            after = found[-1][0]
        if with_ended:
            await self._store.fenced(self._download_again)

    async def restart(self, *, with_ended: bool = False) -> None:
        """Read everything again: after a stop, jobs that waited in the client are in the table only."""
        self._cursor = _BEGINNING
        await self.take_up_active(with_ended=with_ended)

    async def fill(self) -> None:
        """Take jobs from the queue if the client has room for more."""
        room = self._ahead - self._client.waiting
        if room < self._ahead // 2:
            return
        now = anyio.current_time()
        if now - self._began_at >= _RESCAN_INTERVAL:
            self._cursor, self._began_at = _BEGINNING, now
            local = self._store.local_requests
            self._store.local_requests = {key: local[key] for key in local if self._client.live(key) is not None}
        self._outdated.clear()
        found = await self.select(FEED, (self._store.account, *self._cursor, self._ahead))
        if found:
            self._cursor = found[-1][:2]
        for row in found:
            await self._take_up(row[2:])

    def discard(self, keys: Sequence[str]) -> None:
        """Do not take up these jobs by what was read of them before this call: they are about to be cancelled."""
        self._outdated.update(keys)

    async def take_up_forgotten(self) -> None:
        """Follow `running` rows that are not followed: another leader has learned late that they were accepted."""
        keys = await self.select(
            f"SELECT key FROM omni_jobs WHERE account = %s AND {_ACTIVE} AND status = 'running'"
            f" AND changed_at < now() - {_FORGOTTEN_AFTER} * interval '1 s'",
            (self._store.account,),
        )
        forgotten = [key for (key,) in keys if self._client.live(key) is None]
        if forgotten:
            _log.info("%d accepted job(s) were not followed", len(forgotten))
            found = await self.select(
                f"{SELECT} WHERE account = %s AND key = ANY(%s)", (self._store.account, forgotten[:_PAGE])
            )
            for row in found:
                await self._take_up(row)

    async def select(self, question: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a query, after everything that was written before."""

        async def work(db: PostgresConnection) -> list[tuple[Any, ...]]:
            return await (await db.execute(statement(question), values)).fetchall()

        return await self._store.read(work)

    async def _take_up(self, row: Sequence[Any]) -> None:
        try:
            record = from_row(row)
        except ValueError as error:  # a row that no version of ours has written keeps no other from its turn
            _log.error("a row cannot be read: %s", error)
            return
        if self._client.live(record.key) is not None:
            return
        if has_local_files(record) and self._clips is not None:
            try:
                record = await with_local_inputs(record, self._clips)
            except ValueError:  # a request that cannot be read: its job says so
                _log.debug("job %r has a request that cannot be read", record.key)
            except OSError as error:
                _log.warning("job %r waits for its local files: %s", record.key, error)
                return
            self._store.local_requests[record.key] = record.request
        if record.key not in self._outdated:
            self._client.take_up(record)

    async def _download_again(self, db: PostgresConnection) -> None:
        """Give clips that could not be stored to the workers again."""
        account = self._store.account
        cursor = await db.execute(
            "UPDATE omni_jobs SET status = 'downloading', error = '', links_wanted = videos IS NULL,"
            f" changed_at = clock_timestamp() WHERE account = %s AND {_ACTIVE} AND status = 'download_failed'"
            " AND task_id IS NOT NULL RETURNING key, links_wanted",
            (account,),
        )
        keys = [key for key, links_wanted in await cursor.fetchall() if not links_wanted]
        if keys:
            await db.execute(DEFER, (account, keys))


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
                " WHERE account = %s AND key = ANY(%s)"
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
        is_final = result is not None and result.outcome in {CheckOutcome.FAILED, CheckOutcome.DENIED}
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
