"""Puts requests into the database as waiting jobs: all of one call, or none. Used by `Fleet`.

The rows are copied into a temporary table first. Then a few statements, in the same transaction, add what is new, and
compare the rest with the jobs that exist. So a file of any size can be enqueued again: nothing is added twice.

Local files. The leader that submits a job may run on another machine than the one that enqueued it. So a local image or
video is put into the fleet's clip store, under its SHA-256, and the recorded request names it there.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.to_thread

from ..client.arguments import build_request
from ..errors import InvalidReference, KeyReused
from ..jobs.filenames import stem, stem_of_name
from ..jobs.keys import new_idempotency_key, validate_key
from ..jobs.records import JobRecord
from ..models.request import VideoRequest
from ..submission.local_files import read_image, read_video

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import LiteralString

    import psycopg

    from ..submission.local_files import FileContent
    from .clips import SpooledClipStore

INPUTS = "inputs/"  # where local files are in the clip store
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,10}")
_INPUT = re.compile(rf"{INPUTS}[0-9a-f]{{64}}(\.[A-Za-z0-9]{{1,10}})?")

Enqueueable: TypeAlias = str | VideoRequest | JobRecord
Requests: TypeAlias = Iterable[Enqueueable] | AsyncIterable[Enqueueable] | Mapping[str, str | VideoRequest]
"""What may be enqueued: prompts and requests, whose keys are made from their content; requests by key; or records of
new jobs, such as those of `batch.new_records`."""

# Rows that are prepared before other asyncio tasks get a turn: 64 take 2 ms. Half costs switches, double holds the
# event loop up for longer. As in `client/as_completed.py`.
_ROWS_IN_A_ROW = 64
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
    connection: psycopg.AsyncConnection[Any],
    account: str,
    records: AsyncIterable[JobRecord],
    *,
    priority: int = 0,
    batch: str | None = None,
) -> EnqueueResult:
    """Add the records that are new as waiting jobs of an account, in one transaction, and tell its leader.

    Raise `KeyReused` if a key already names another request, and `ValueError` for a parent that does not exist.
    """
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
        for key, parent in await _all(connection, _ORPHANS, values):
            raise ValueError(f"job {key!r} extends {parent!r}, but there is no such job; nothing was added")
        await connection.execute(_RELEASE, values)
        [(total,)] = await _all(connection, _COUNT, {})
        if new:
            await connection.execute("SELECT pg_notify('omni_jobs', %s)", (account,))
    return EnqueueResult(new=new, existing=total - new)


def _row(position: int, record: JobRecord) -> tuple[object, ...]:
    # The first of `candidates`, which would make all of them.
    file = (stem_of_name(record.name) if record.name else stem(record.key)).casefold()
    idempotency_key = record.idempotency_key or new_idempotency_key()
    return position, record.key, idempotency_key, record.request, record.parent, record.name, file


async def _all(connection: psycopg.AsyncConnection[Any], statement: LiteralString, values: dict[str, Any]) -> list[Any]:
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


# From requests to records


class RecordFactory:
    """Makes the records of requests. Equal requests without a key are numbered, for as long as the factory lives.

    `place(path, name)` puts a local file where every leader finds it under a name. `find(key)` returns
    the job that exists under a key.
    """

    def __init__(
        self, place: Callable[[Path, str], Awaitable[None]], find: Callable[[str], Awaitable[JobRecord | None]]
    ) -> None:
        self._place = place
        self._find = find
        self._seen: Counter[str] = Counter()
        self._placed: dict[Path, Path] = {}  # many requests name the same file

    async def records(self, requests: Requests) -> AsyncIterator[JobRecord]:
        """Yield the record of each request. Raise what is wrong with one: `TypeError`, `ValueError` or `OmniError`."""
        if isinstance(requests, Mapping):
            requests = [self._keyed(key, request) for key, request in requests.items()]
        _check(requests)
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                yield await self._record(request)
        else:
            for request in requests:
                yield await self._record(request)

    def _keyed(self, key: str, request: str | VideoRequest) -> JobRecord:
        if (checked := validate_key(key)) is None:
            raise ValueError("a key is a text; give requests without keys as a list")
        return JobRecord(key=checked, request=build_request(request, {}).to_json())

    async def _record(self, item: Enqueueable) -> JobRecord:
        if isinstance(item, JobRecord):
            record = item
            validate_key(record.key)
        else:
            request = build_request(item, {})
            key = request.content_key()
            self._seen[key] += 1
            number = f"~{self._seen[key]}" if self._seen[key] > 1 else ""
            record = JobRecord(key=f"{key}{number}", request=request.to_json())
        if has_local_files(record):
            return await self._with_placed_files(record)
        return record

    async def _with_placed_files(self, record: JobRecord) -> JobRecord:
        """Return the record with the names of its local files in the clip store."""
        request = VideoRequest.from_json(record.request)
        try:
            for path in request.image_files:
                await self._place_once(path, read_image)
            if request.video_file is not None:
                await self._place_once(request.video_file, read_video)
        except InvalidReference:
            existing = await self._find(record.key)
            if existing is None or not _is_same_but_files(existing.request, request):
                raise
            return replace(record, request=existing.request)  # recorded with these files, which are not needed again
        return replace(record, request=_renamed(request, self._placed).to_json())

    async def _place_once(self, path: Path, read: Callable[[Path], FileContent]) -> None:
        if path not in self._placed:
            content = await anyio.to_thread.run_sync(read, path)
            ending = path.suffix.lower() if _ENDING.fullmatch(path.suffix) else ""
            name = f"{INPUTS}{content.digest}{ending}"
            await self._place(path, name)
            self._placed[path] = Path(name)


def _check(requests: object) -> None:
    """Raise `TypeError` for what can be iterated over but was not meant to be: one text is not many prompts."""
    if isinstance(requests, (str, bytes, VideoRequest, JobRecord)):
        raise TypeError(f"enqueue takes an iterable of requests, not one {type(requests).__name__}: put it into a list")


async def take(records: AsyncIterator[JobRecord], count: int) -> tuple[list[JobRecord], bool]:
    """Return the next records, at most `count`, and whether there are no more."""
    taken: list[JobRecord] = []
    while len(taken) < count:
        try:
            taken.append(await anext(records))
        except StopAsyncIteration:
            return taken, True
    return taken, False


async def iterate(records: list[JobRecord]) -> AsyncIterator[JobRecord]:
    """Yield the records of a list."""
    for record in records:
        yield record


# Local files


def _renamed(request: VideoRequest, names: Mapping[Path, Path]) -> VideoRequest:
    """Return a request with other names for its local files."""
    images = tuple(names.get(image, image) if isinstance(image, Path) else image for image in request.images)
    video = names.get(request.video_file, request.video_file) if request.video_file else request.video
    return request.model_copy(update={"images": images, "video": video})


def _is_same_but_files(recorded: str, request: VideoRequest) -> bool:
    """Return whether a recorded request is this one, apart from what its local files are called."""
    other = VideoRequest.from_json(recorded)
    files = {"images", "video"}
    counts = [(len(each.images), each.video is None) for each in (other, request)]
    return counts[0] == counts[1] and other.model_dump(exclude=files) == request.model_dump(exclude=files)


def has_local_files(record: JobRecord) -> bool:
    """Return whether a record's request may name local files."""
    return '"images"' in record.request or '"video"' in record.request


async def with_local_inputs(record: JobRecord, store: SpooledClipStore) -> JobRecord:
    """Return a record whose request names its files by paths of this machine, for the client that submits it.

    What is in an object store is copied into the spool of this worker. Other files than those that were put into the
    store are not looked for: a row of the database must not have files of this machine uploaded.
    Raise `OSError` if the store cannot be read. A file that is gone is reported when the job is prepared.
    """
    request = VideoRequest.from_json(record.request)
    names = [*request.image_files, *([request.video_file] if request.video_file else [])]
    found = {name: await _local_input(name.as_posix(), store) for name in names}
    return replace(record, request=_renamed(request, found).to_json())


async def _local_input(name: str, store: SpooledClipStore) -> Path:
    if not _INPUT.fullmatch(name):
        return Path("not in the clip store") / name.lstrip("/")
    location = store.location(name)
    if "://" not in location:
        return Path(location)
    path = store.spool / name
    await store.destination.copy_to(name, path)
    return path
