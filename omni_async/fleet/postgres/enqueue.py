"""Adds jobs to the database: all of one call, or none. Its other statements let jobs that ended continue.

The rows are copied into a temporary table first. Then a few statements, in the same transaction, add what is new, and
compare the rest with the jobs that exist. So a file of any size can be enqueued again: nothing is added twice.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import KeyReused
from ...jobs.filenames import stem, stem_of_name
from ...jobs.keys import new_idempotency_key
from .database import NOTIFY
from .rows import is_storable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable
    from typing import LiteralString

    from ...jobs.records import JobRecord
    from .database import PostgresConnection

# Rows that are prepared before other asyncio tasks get a turn: 64 take 2 ms. Half costs switches, double holds the
# event loop up for longer. As in `client/as_completed.py`.
_ROWS_IN_A_ROW = 64
_MAX_PRIORITY = 2**31 - 1  # of the column: its index holds the negative number
# Jobs that an error names: enough to see what happened.
_NAMED = 3

_CREATE = """CREATE TEMPORARY TABLE omni_new (
    position bigint, key text, idempotency_key text, request text, parent text, name text, file text
) ON COMMIT DROP"""
_COPY = "COPY omni_new (position, key, idempotency_key, request, parent, name, file) FROM STDIN"
_TWICE = (
    "SELECT key FROM omni_new GROUP BY key"
    " HAVING count(DISTINCT request) > 1 OR count(DISTINCT coalesce(parent, '')) > 1 ORDER BY key"
)
# A job is submitted once its row has the task of its parent. The leader writes that when the parent has finished, to
# the children that it sees. So the parents of new jobs must not finish between now and the commit, and where they have
# finished already, it is done here.
_HOLD_PARENTS = """SELECT FROM omni_jobs WHERE account = %(account)s AND key IN (
    SELECT parent FROM omni_new WHERE parent IS NOT NULL AND NOT EXISTS (
        SELECT FROM omni_jobs WHERE account = %(account)s AND key = omni_new.key)
) ORDER BY id FOR SHARE"""
_RELEASE = "SELECT omni_release(%(account)s, ARRAY(SELECT DISTINCT parent FROM omni_new WHERE parent IS NOT NULL))"
# `ORDER BY` before the identity is drawn: jobs are fed in the order of their ids, and a parent comes before its
# children. `DISTINCT ON` because one call may hold a job more than once.
_INSERT = """WITH added AS (
    INSERT INTO omni_jobs (account, key, idempotency_key, parent, status, created_at, submits, ambiguous_submits,
        error, previous_cost, name, priority, batch)
    SELECT %(account)s, key, idempotency_key, parent, 'waiting', %(now)s, 0, 0, '', 0, name, %(priority)s, %(batch)s
    FROM (SELECT DISTINCT ON (key) * FROM omni_new ORDER BY key, position) AS each ORDER BY position
    ON CONFLICT (account, key) DO NOTHING RETURNING id, key
), requests AS (
    INSERT INTO omni_requests (job, request)
    SELECT DISTINCT ON (added.id) added.id, omni_new.request FROM added JOIN omni_new USING (key)
), files AS (
    INSERT INTO omni_files (account, name, key, video)
    SELECT DISTINCT ON (key) %(account)s, file, key, 0 FROM added JOIN omni_new USING (key) ON CONFLICT DO NOTHING
)
SELECT count(*) FROM added"""
_COUNT = "SELECT count(DISTINCT key) FROM omni_new"
_OTHERS = (
    "SELECT omni_new.key FROM omni_new"
    " JOIN omni_jobs ON omni_jobs.account = %(account)s AND omni_jobs.key = omni_new.key"
    " LEFT JOIN omni_requests ON omni_requests.job = omni_jobs.id"
    " WHERE omni_requests.request IS DISTINCT FROM omni_new.request"
    " OR omni_jobs.parent IS DISTINCT FROM omni_new.parent ORDER BY omni_new.position"
)
_ORPHANS = (
    "SELECT omni_new.key, omni_new.parent FROM omni_new WHERE omni_new.parent IS NOT NULL AND NOT EXISTS"
    " (SELECT FROM omni_jobs WHERE account = %(account)s AND key = omni_new.parent) ORDER BY position"
)


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """What a call has added: `new` jobs, and `existing` ones that were there already with the same request."""

    new: int
    existing: int


async def enqueue(
    connection: PostgresConnection,
    account: str,
    records: AsyncIterable[JobRecord],
    *,
    priority: int = 0,
    batch: str | None = None,
) -> EnqueueResult:
    """Add the records that are new as waiting jobs of an account, in one transaction, and tell its leader.

    Raise `KeyReused` if a key already names another request, and `ValueError` for a parent that does not exist, and for
    a priority or a batch that no row can hold.
    """
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > _MAX_PRIORITY:
        raise ValueError(f"priority={priority!r}: it must be a whole number from -{_MAX_PRIORITY} to {_MAX_PRIORITY}")
    if batch is not None and not is_storable(batch):
        raise ValueError(f"batch={batch!r}: it must be a text without control characters")
    values = {"account": account, "now": time.time(), "priority": priority, "batch": batch}
    async with connection.transaction():
        await connection.execute(_CREATE)
        async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            position = 0
            async for record in records:
                await copy.write_row(_row(position, record))
                position += 1
                if position % _ROWS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        _refuse_reused(await _all(connection, _TWICE, {}))
        # Two calls with the same keys would wait for each other, in any order, and one of them would be ended by the
        # database. So they come one after the other; copying, which takes longest, is over by now.
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"omni_enqueue {account}",))
        await connection.execute("INSERT INTO omni_accounts (account) VALUES (%s) ON CONFLICT DO NOTHING", (account,))
        await connection.execute(_HOLD_PARENTS, values)
        [(new,)] = await _all(connection, _INSERT, values)
        # What exists is compared after the insert: only then no other call can add another request in between.
        _refuse_reused(await _all(connection, _OTHERS, values))
        if orphans := await _all(connection, _ORPHANS, values):
            key, parent = orphans[0]
            raise ValueError(f"job {key!r} extends {parent!r}, but there is no such job; nothing was added")
        await connection.execute(_RELEASE, values)
        [(total,)] = await _all(connection, _COUNT, {})
        if new:
            await connection.execute(NOTIFY, (account,))
    return EnqueueResult(new=new, existing=total - new)


def _row(position: int, record: JobRecord) -> tuple[object, ...]:
    # The first of `candidates`, which would make all of them.
    file = (stem_of_name(record.name) if record.name else stem(record.key)).casefold()
    idempotency_key = record.idempotency_key or new_idempotency_key()
    return position, record.key, idempotency_key, record.request, record.parent, record.name, file


async def _all(connection: PostgresConnection, statement: LiteralString, values: dict[str, Any]) -> list[Any]:
    return await (await connection.execute(statement, values)).fetchall()


def _refuse_reused(rows: list[Any]) -> None:
    if rows:
        keys = [row[0] for row in rows]
        more = f" and {len(keys) - _NAMED:,} more" if len(keys) > _NAMED else ""
        raise KeyReused(
            f"{', '.join(map(repr, keys[:_NAMED]))}{more}: already another request's key; nothing was added. "
            "A key names one request: give an edited one a new key",
            key=keys[0],
        )


# Statements that let jobs continue after they have ended. Parameters: account, statuses.

# A cancelled job that the server had accepted is followed again, without paying.
FOLLOW = """UPDATE omni_jobs SET status = 'running', error = '', finished_at = NULL, cancel_wanted = false,
    changed_at = now() WHERE account = %(account)s AND status = ANY(%(statuses)s) AND status = 'cancelled'
    AND task_id IS NOT NULL"""
# The server may have accepted these jobs, and still remembers the idempotency key, for 24 h: sent under it again, they
# are not billed again. The last hour is left for resends.
_IS_KEY_VALID = """(status = 'unknown' OR status = 'cancelled' AND ambiguous_submits > 0) AND task_id IS NULL
    AND idempotency_key <> '' AND submitted_at > extract(epoch FROM now()) - 82800"""
# What `JobRegistry.reset_for_resubmit` does to a record. Under the same key, a body must be the same as before.
_OF_ONE_KEY = ("sent_references", "webhook", "submitted_at")
RETRY = f"""UPDATE omni_jobs SET status = 'waiting', error = '', paths = NULL,
    idempotency_key = CASE WHEN {_IS_KEY_VALID} THEN idempotency_key
        ELSE 'omni-' || replace(gen_random_uuid()::text, '-', '') END,
    {", ".join(f"{name} = CASE WHEN {_IS_KEY_VALID} THEN {name} END" for name in _OF_ONE_KEY)},
    parent_task_id = CASE WHEN parent IS NULL OR {_IS_KEY_VALID} THEN parent_task_id END,
    partial_download = NULL, videos = NULL, previous_cost = previous_cost + coalesce(cost, 0), cost = NULL,
    accepted_at = NULL, finished_at = NULL, server_seconds = NULL, cancel_wanted = false, changed_at = now(),
    task_id = NULL, previous_task_ids = CASE WHEN task_id IS NULL THEN previous_task_ids
        ELSE (coalesce(previous_task_ids, '[]')::jsonb || to_jsonb(task_id))::text END
    WHERE account = %(account)s AND status = ANY(%(statuses)s)"""
# Those of them that extend another job may be submitted if that has finished already.
RELEASE_WAITING = """SELECT omni_release(%(account)s, ARRAY(SELECT DISTINCT parent FROM omni_jobs
    WHERE account = %(account)s AND status = 'waiting' AND parent IS NOT NULL AND parent_task_id IS NULL))"""
RESUME_LEADER = "UPDATE omni_accounts SET resumes = resumes + 1 WHERE account = %(account)s"
