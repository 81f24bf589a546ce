"""The SQL statements of the leader on the rows of one account, as plain coroutines of a connection.

Used by `PostgresJobStore`, which is responsible for the fence and the transaction. The format of a row is that of the
local ledger (`ledger/row_format.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...jobs.filenames import NOT_OURS, claim, claimed_name
from ...jobs.lifecycle import NOT_RESUMABLE, JobStatus
from ...jobs.spending import Spending
from ...jobs.store import RecordPage, merge_accepted
from ...ledger.row_format import COLUMNS, from_row, to_row
from ...models.reference_files import UPLOAD_LIFETIME, Upload
from .database import statement

if TYPE_CHECKING:
    from ...jobs.records import JobRecord
    from .database import PostgresConnection


# The request by a subquery: with a join, the planner may read all requests for each page, if it has no statistics.
_SELECTED = (
    f"{', '.join(COLUMNS)}, coalesce((SELECT request FROM omni_requests WHERE job = omni_jobs.id), '') FROM omni_jobs"
)
SELECT = f"SELECT {_SELECTED}"
SELECT_WITH_ID = f"SELECT id, {_SELECTED}"
_INSERT = (
    f"INSERT INTO omni_jobs (account, {', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * (len(COLUMNS) + 1))})"
    " ON CONFLICT DO NOTHING RETURNING id"
)
_UPDATE = f"UPDATE omni_jobs SET {', '.join(f'{name} = %s' for name in COLUMNS)}, changed_at = clock_timestamp()"
# Lists of statuses for `IN`: jobs that have not ended, and ended ones with nothing left to do.
NOT_ENDED = ", ".join(repr(str(status)) for status in JobStatus if not status.is_final)
_DONE = ", ".join(repr(str(status)) for status in JobStatus if status in NOT_RESUMABLE)
# A job whose clips are still to be downloaded, by this task. Parameters: account, key, task id.
STILL_DOWNLOADING = "WHERE account = %s AND key = %s AND task_id = %s AND status = 'downloading'"
# Facts, given as a JSON object. Parameters: account, object.
SET_FACTS = (
    "INSERT INTO omni_facts SELECT %s, key, value FROM json_each_text(%s) ON CONFLICT (account, name)"
    " DO UPDATE SET value = excluded.value"
)
SELECT_FACT = "SELECT value FROM omni_facts WHERE account = %s AND name = %s"
# Durations read when a leader begins, as for the local ledger.
_RECENT_DURATIONS = 1000


# Downloads, as tasks of procrastinate
QUEUE = "omni_fetch"
TASK = "omni_async.fetch"

# Defers the downloads of jobs. It belongs in the transaction that records them as `downloading`: then neither exists
# without the other. Parameters: account, keys.
DEFER = f"""
SELECT procrastinate_defer_jobs_v1(ARRAY(
    SELECT ROW('{QUEUE}', '{TASK}', 0, NULL, NULL, jsonb_build_object('account', %s::text, 'key', key), NULL)
           ::procrastinate_job_to_defer_v1
    FROM unnest(%s::text[]) AS key))
"""
# Finds jobs whose download was deferred and no longer has a task, unless they have changed in the last seconds. By
# EXCEPT, which sorts or hashes both sides: without current statistics, Postgres would compare each job with each task
# for NOT EXISTS (15 s for 6,000 of both, where this takes 0.02 s). Parameters: account, seconds.
LOST = f"""
SELECT key FROM (
    SELECT account, key FROM omni_jobs
    WHERE account = %s AND status = 'downloading' AND NOT links_wanted AND changed_at < now() - %s * interval '1 s'
    EXCEPT
    SELECT args->>'account', args->>'key' FROM procrastinate_jobs
    WHERE queue_name = '{QUEUE}' AND status IN ('todo', 'doing')
) AS lost
"""


async def insert(db: PostgresConnection, account: str, record: JobRecord) -> JobRecord | None:
    """Record a new job and its file name, or return the job that has the same key or task already."""
    existing = (await find_all(db, account, [record.key])).get(record.key)
    if existing is None and not record.request and record.task_id is not None:
        found = await _select(db, f"{SELECT} WHERE account = %s AND task_id = %s", account, record.task_id)
        existing = found[0] if found else None
    if existing is None:
        await insert_missing(db, account, record)
        await claim_filename(db, account, record.key, 0)
    return existing


async def insert_missing(db: PostgresConnection, account: str, record: JobRecord) -> None:
    """Record a job unless it has a row."""
    cursor = await db.execute(statement(_INSERT), (account, *to_row(record)))
    row = await cursor.fetchone()
    if row is not None and record.request:
        await db.execute("INSERT INTO omni_requests VALUES (%s, %s)", (row[0], record.request))


async def find_all(
    db: PostgresConnection, account: str, keys: list[str], *, only_ended: bool = False
) -> dict[str, JobRecord]:
    """Return the records of these keys, by key; with `only_ended`, of the jobs that have ended."""
    keys = [key for key in keys if is_storable(key)]
    condition = f" AND status NOT IN ({NOT_ENDED})" if only_ended else ""
    found = await _select(db, f"{SELECT} WHERE account = %s AND key = ANY(%s){condition}", account, keys)
    return {record.key: record for record in found}


def is_storable(text: object) -> bool:
    """Return whether Postgres can hold a text: neither NUL nor a lone surrogate is in it."""
    return isinstance(text, str) and "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


async def merge_accepted_row(db: PostgresConnection, account: str, record: JobRecord) -> None:
    """Record that the server accepted a job, whatever its row says by now."""
    locked = f"{SELECT} WHERE account = %s AND key = %s FOR UPDATE"
    found = await _select(db, locked, account, record.key)
    if not found:
        await insert_missing(db, account, record)
        return
    merged = merge_accepted(found[0], record)
    if merged != found[0]:
        values = (*to_row(merged), account, record.key)
        await db.execute(statement(f"{_UPDATE} WHERE account = %s AND key = %s"), values)


async def merge_not_executed(db: PostgresConnection, account: str, record: JobRecord) -> None:
    """Record that the server did not execute the only submit of a job, if its row says that it may have."""
    if record.ambiguous_submits:
        return
    await db.execute(
        "UPDATE omni_jobs SET status = 'waiting', error = '', finished_at = NULL, ambiguous_submits = 0,"
        " changed_at = clock_timestamp()"
        " WHERE account = %s AND key = %s AND idempotency_key = %s AND status IN ('submitting', 'unknown')"
        " AND task_id IS NULL AND submits <= 1",
        (account, record.key, record.idempotency_key),
    )


async def claim_filename(db: PostgresConnection, account: str, key: str, index: int, taken: str = "") -> str:
    """Return the file name of video number `index` of a key: always the same name, and no other key's.

    `taken` is a previous name, under which another file was found: it belongs to no job from then on.
    """
    if taken:
        await db.execute(
            "UPDATE omni_files SET key = %s, video = %s WHERE account = %s AND name = %s AND key = %s AND video = %s",
            (*NOT_OURS, account, claimed_name(taken), key, index),
        )
    cursor = await db.execute("SELECT name FROM omni_jobs WHERE account = %s AND key = %s", (account, key))
    row = await cursor.fetchone()
    wanted = row[0] if row else None
    owners: dict[str, tuple[str, int]] = {}
    while True:
        try:
            return claim(key, index, owners.__getitem__, name=wanted)
        except KeyError as missing:
            name = missing.args[0]
        values = (account, name, key, index)
        await db.execute("INSERT INTO omni_files VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", values)
        cursor = await db.execute("SELECT key, video FROM omni_files WHERE account = %s AND name = %s", (account, name))
        owner = await cursor.fetchone()
        assert owner is not None
        owners[name] = (owner[0], owner[1])


def column_of(record: JobRecord, name: str) -> object:
    """Return the value of one column of a record, as its row has it."""
    return to_row(record)[COLUMNS.index(name)]


async def unfinished(db: PostgresConnection, account: str, after: int, limit: int) -> RecordPage:
    """Return the next unfinished jobs whose row id is above `after`, oldest first."""
    cursor = await db.execute(
        statement(f"{SELECT_WITH_ID} WHERE account = %s AND status NOT IN ({_DONE}) AND id > %s ORDER BY id LIMIT %s"),
        (account, after, limit),
    )
    found = await cursor.fetchall()
    return RecordPage([from_row(row[1:]) for row in found], found[-1][0] if len(found) == limit else None)


async def durations(db: PostgresConnection, account: str) -> list[JobRecord]:
    """Return the latest jobs whose duration on the server is known, oldest first."""
    question = f"{SELECT} WHERE account = %s AND server_seconds IS NOT NULL ORDER BY accepted_at DESC, id DESC"
    question = f"{question} LIMIT {_RECENT_DURATIONS}"
    return (await _select(db, question, account))[::-1]


async def find_upload(db: PostgresConnection, account: str, server: str, digest: str) -> Upload | None:
    """Return the last upload of a content to a server."""
    cursor = await db.execute(
        "SELECT url, expires_at FROM omni_uploads WHERE account = %s AND server = %s AND digest = %s",
        (account, server, digest),
    )
    row = await cursor.fetchone()
    return Upload(*row) if row else None


async def save_upload(db: PostgresConnection, account: str, server: str, digest: str, upload: Upload) -> None:
    """Record an upload, and delete uploads that had expired when it was made."""
    oldest = upload.expires_at - UPLOAD_LIFETIME
    await db.execute("DELETE FROM omni_uploads WHERE account = %s AND expires_at < %s", (account, oldest))
    await db.execute(
        "INSERT INTO omni_uploads VALUES (%s, %s, %s, %s, %s) ON CONFLICT (account, server, digest)"
        " DO UPDATE SET url = excluded.url, expires_at = excluded.expires_at",
        (account, server, digest, upload.url, upload.expires_at),
    )


async def forget_upload(db: PostgresConnection, account: str, url: str) -> None:
    """Delete an upload by its URL."""
    await db.execute("DELETE FROM omni_uploads WHERE account = %s AND url = %s", (account, url))


async def get_fact(db: PostgresConnection, account: str, name: str) -> str | None:
    """Return the fact of a name."""
    cursor = await db.execute(SELECT_FACT, (account, name))
    row = await cursor.fetchone()
    return row[0] if row else None


async def spending(db: PostgresConnection, account: str) -> Spending:
    """Return what all jobs have cost so far."""
    cursor = await db.execute(
        "SELECT coalesce(sum(cost), 0)::float8, coalesce(sum(priced), 0)::bigint, coalesce(sum(unpriced), 0)::bigint"
        " FROM omni_totals WHERE account = %s",
        (account,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return Spending(*row)


async def _select(db: PostgresConnection, question: str, *values: object) -> list[JobRecord]:
    cursor = await db.execute(statement(question), values)
    return [from_row(row) for row in await cursor.fetchall()]
