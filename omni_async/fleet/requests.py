"""Makes the records of requests, for `Fleet` to put into the database.

Local files. The leader that submits a job may run on another machine than the one that enqueued it. So a local image or
video is put into the fleet's clip store, under its SHA-256, and the recorded request names it there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio.to_thread

from ..client.arguments import build_request
from ..errors import InvalidReference
from ..jobs.keys import validate_key
from ..jobs.records import JobRecord
from ..models.request import VideoRequest
from ..submission.local_files import read_image, read_video
from .postgres.rows import is_storable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ..submission.local_files import FileContent
    from .clips import SpooledClipStore

INPUTS = "inputs/"  # where local files are in the clip store
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,10}")
_INPUT = re.compile(rf"{INPUTS}[0-9a-f]{{64}}(\.[A-Za-z0-9]{{1,10}})?")

_MAX_ACCOUNT_LENGTH = 1000  # characters: a notification, which names the account, holds 8,000 bytes

Enqueueable: TypeAlias = str | VideoRequest | JobRecord
Requests: TypeAlias = Iterable[Enqueueable] | AsyncIterable[Enqueueable] | Mapping[str, str | VideoRequest]
"""What may be enqueued: prompts and requests, whose keys are made from their content; requests by key; or records of
new jobs, such as those of `batch.new_records`."""


def validate_account(name: str) -> str:
    """Return the name of an account, or raise `ValueError` if it cannot be one."""
    if not isinstance(name, str) or not name.strip() or not is_storable(name) or len(name) > _MAX_ACCOUNT_LENGTH:
        raise ValueError(f"account={str(name)[:60]!r}: it must be a text of 1 to {_MAX_ACCOUNT_LENGTH:,} characters")
    return name


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
