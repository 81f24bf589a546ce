"""`JobFeed`: feeds the client of a leader from the table of jobs, as many as it has room for.

Each of its queries reads a partial index that holds little: what is ready, or in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import anyio

from ..ledger.row_format import from_row
from ..logs import get_logger
from .postgres.database import statement
from .postgres.rows import DEFER, SELECT, SELECT_WITH_ID
from .queue_cursor import QueueCursor
from .requests import has_local_files, with_local_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..api.parsing import Response
    from ..errors import OmniError
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from .clips import SpooledClipStore
    from .postgres.database import PostgresConnection
    from .postgres.store import PostgresJobStore

# The queue of submits, in the order of its index. Parameters: account, the last one read (twice), how many.
FEED = (
    f"{SELECT_WITH_ID.replace('SELECT id', 'SELECT -priority, id')} WHERE account = %s AND status = 'waiting'"
    " AND (parent IS NULL OR parent_task_id IS NOT NULL) AND (-priority, id) > (%s, %s) ORDER BY -priority, id LIMIT %s"
)
_PAGE = 1000
# Seconds until local files are read again from a clip store that has failed, which may take 15 s to say so. Jobs
# without files are taken up meanwhile. At half, they wait more often; at double, jobs with files begin later. Chosen,
# not measured.
_FILES_PAUSE = 30.0
# Seconds after which a `running` row without a live job has been forgotten, and is not just being written.
_FORGOTTEN_AFTER = 2.0
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

    @property
    def stopped_models(self) -> Mapping[str, OmniError]:
        """The models whose jobs are not submitted, and why."""

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
        self._cursor = QueueCursor()
        self._stopped_models: set[str] = set()
        self._skipped = ""  # why a job of the queue was not taken up
        self._outdated: set[str] = set()  # keys whose rows have changed since they were read
        self._files_due = float("-inf")  # when local files are read again
        self._are_files_away = False  # the user knows that they cannot be read

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
        """Read everything again: after a stop, jobs that waited in the client are only in the table."""
        self._read_anew()
        await self.take_up_active(with_ended=with_ended)

    async def fill(self) -> None:
        """Take jobs from the queue if the client has room for more."""
        room = self._ahead - self._client.waiting
        if room < self._ahead // 2:
            return
        if self._stopped_models != self._client.stopped_models.keys():
            self._read_anew()
        if self._cursor.begin(anyio.current_time()):
            local = self._store.local_requests
            self._store.local_requests = {key: local[key] for key in local if self._client.live(key) is not None}
        self._outdated.clear()
        found = await self.select(FEED, (self._store.account, *self._cursor.position, self._ahead))
        taken = [await self._take_up(row[2:], is_new=True) for row in found]
        last = found[-1][:2] if found else None
        self._cursor.on_read(last, is_end=len(found) < self._ahead, has_found=any(taken))

    @property
    def stopped(self) -> str:
        """Why no job of the queue can be submitted, "" if one can, or may be submitted later without intervention."""
        is_stopped = self._cursor.is_complete and not self._cursor.has_found and self._client.waiting == 0
        return self._skipped if is_stopped else ""

    def _read_anew(self) -> None:
        self._cursor, self._skipped = QueueCursor(), ""
        self._stopped_models = set(self._client.stopped_models)

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

    async def _take_up(self, row: Sequence[Any], *, is_new: bool = False) -> bool:
        """Continue a job, and return whether that was possible. `is_new`: it waits in the queue."""
        try:
            record = from_row(row)
        except ValueError as error:  # a row that no version of ours has written keeps no other from its turn
            _log.error("a row cannot be read: %s", error)
            return False
        if self._client.live(record.key) is not None:
            return False
        if is_new and self._stopped_models and record.model in self._stopped_models:
            self._skipped = str(self._client.stopped_models.get(record.model, ""))
            return False
        if has_local_files(record) and self._clips is not None:
            if (placed := await self._with_local_files(record, self._clips)) is None:
                return False
            record = placed
            self._store.local_requests[record.key] = record.request
        if record.key in self._outdated:
            return False
        self._client.take_up(record)
        return True

    async def _with_local_files(self, record: JobRecord, clips: SpooledClipStore) -> JobRecord | None:
        """Return a record with its files on this machine; None while the clip store does not give them."""
        if anyio.current_time() < self._files_due:
            return None
        try:
            placed = await with_local_inputs(record, clips)
        except ValueError:  # its job will say so
            _log.debug("job %r has a request that cannot be read", record.key)
            return record
        except OSError as error:
            self._files_due = anyio.current_time() + _FILES_PAUSE
            if not self._are_files_away:
                _log.warning("jobs wait for their local files: job %r: %s", record.key, error)
            self._are_files_away = True
            return None
        if self._are_files_away:
            _log.warning("local files are read again")
        self._are_files_away = False
        return placed

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
