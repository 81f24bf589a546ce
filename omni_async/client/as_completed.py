"""Jobs in the order in which they finish, fed from an iterable of any length with only so many unfinished at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

from ..jobs.job import Job, state_of

if TYPE_CHECKING:
    from ..models.request import VideoRequest


Submittable: TypeAlias = "VideoRequest | str | Job"

_AT_A_STRETCH = 64  # items taken from an iterable before everybody else gets a turn


class AsCompletedIterator(AsyncIterator[Job]):
    """What `OmniClient.as_completed` returns."""

    def __init__(
        self,
        wanted: Iterable[Submittable] | AsyncIterable[Submittable],
        *,
        max_pending: int,
        submit: Callable[[VideoRequest | str], Job],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        if max_pending < 1:
            raise ValueError(f"as_completed(max_pending={max_pending}): max_pending must be at least 1")
        self._max_pending = max_pending
        self._submit = submit
        self._finished: deque[Job] = deque()
        self._unfinished = 0
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._is_exhausted = False
        self._source: Iterator[Submittable] | None = None
        if isinstance(wanted, AsyncIterable):
            # Its items may come slowly, and what finishes meanwhile must not wait for them: so it has a task.
            spawn(lambda: self._pump(wanted))
        else:
            self._source = iter(wanted)

    async def __anext__(self) -> Job:
        """Give the next job that has finished; raises what the iterable raised."""
        while True:
            if self._source is not None:
                await self._feed(self._source)
            if self._finished:
                self._room.set()
                return self._finished.popleft()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._is_exhausted and not self._unfinished:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    async def _feed(self, source: Iterator[Submittable]) -> None:
        """Take in as many items as there is room for."""
        taken = 0
        while not self._is_exhausted and self._has_room():
            try:
                self._take(next(source))
            except StopIteration:
                self._is_exhausted = True
            except Exception:
                self._is_exhausted = True
                raise
            taken += 1
            if taken % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)

    async def _pump(self, source: AsyncIterable[Submittable]) -> None:
        try:
            async with _closing(source):
                async for item in source:
                    self._take(item)
                    while not self._has_room():
                        self._room.clear()
                        await self._room.wait()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever iterates, not to the client's own tasks
            self._error = error
        finally:
            self._is_exhausted = True
            self._news.set()

    def _has_room(self) -> bool:
        """Tell whether one more may be taken. What has finished but was not asked for yet takes room as well."""
        return self._unfinished + len(self._finished) < self._max_pending

    def _take(self, item: Submittable) -> None:
        job = item if isinstance(item, Job) else self._submit(item)
        self._unfinished += 1
        state_of(job).add_done_callback(lambda _: self._note_finished(job))

    def _note_finished(self, job: Job) -> None:
        self._unfinished -= 1
        self._finished.append(job)
        self._news.set()


def _closing(source: AsyncIterable[Submittable]) -> AbstractAsyncContextManager[object]:
    """Close an async generator when done with it; other sources have nothing to close."""
    return aclosing(source) if isinstance(source, AsyncGenerator) else nullcontext()
