"""Iterators over jobs, fed lazily: `AsCompletedIterator` behind `as_completed`, `ResumeIterator` behind `resume`.

Neither holds more than `max_pending` jobs, so the iterable may be endless and the ledger of any size.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import ClientClosed
from ..jobs.job import Job, state_of
from ..logs import get_logger
from .iterables import check_request, check_requests

if TYPE_CHECKING:
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from ..jobs.store import RecordPage
    from ..models.request import VideoRequest
    from .iterables import Submittable


# Items that are submitted before other asyncio tasks get a turn. A submit took 24 microseconds (20,000 jobs, store in
# memory), so that this many hold up the event loop for 1.5 ms. Half costs switches, double holds it up for longer.
_SUBMITTED_IN_A_ROW = 64

# Seconds in which an asynchronous source may release what it holds when the client is closed. At half, a slow database
# keeps its connection; at double, a source that hangs delays the end. Chosen, not measured.
_CLEANUP = 2.0


_log = get_logger(__name__)


class AsCompletedIterator(AsyncIterator[Job]):
    """Iterates over jobs as they finish. `spawn` starts a coroutine among the client's own asyncio tasks."""

    def __init__(
        self,
        requests: Iterable[Submittable] | AsyncIterable[Submittable],
        *,
        max_pending: int,
        submit: Callable[[VideoRequest | str], Job],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        if max_pending < 1:
            raise ValueError(f"as_completed(max_pending={max_pending}): max_pending must be at least 1")
        check_requests(requests)
        self._max_pending = max_pending
        self._submit = submit
        self._finished: deque[Job] = deque()
        self._unfinished = 0
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._is_exhausted = False
        self._source: Iterator[Submittable] | None = None
        if isinstance(requests, AsyncIterable):
            # Its items may come slowly, and jobs that finish meanwhile must not wait for them: so it gets a task.
            spawn(lambda: self._pump(requests))
        else:
            self._source = iter(requests)

    async def __anext__(self) -> Job:
        """Return the next job that has finished, or raise what the iterable raised."""
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
            self._wake.clear()
            await self._wake.wait()

    async def _feed(self, source: Iterator[Submittable]) -> None:
        """Submit as many items as `max_pending` allows."""
        taken = 0
        while not self._is_exhausted and self._has_room():
            try:
                self._submit_item(next(source))
            except StopIteration:
                self._is_exhausted = True
            except Exception:
                self._is_exhausted = True
                raise
            taken += 1
            if taken % _SUBMITTED_IN_A_ROW == 0:
                await asyncio.sleep(0)

    async def _pump(self, source: AsyncIterable[Submittable]) -> None:
        """Read the source in an asyncio task that is cancelled once: anyio would cancel every await of its cleanup."""
        reading = asyncio.create_task(self._read(source), name="omni_async source of as_completed")
        try:
            await asyncio.wait([reading])
        except asyncio.CancelledError:
            reading.cancel()
            with anyio.move_on_after(_CLEANUP, shield=True):
                await asyncio.wait([reading])
            reading.cancel()
            raise
        if not reading.cancelled():
            reading.result()

    async def _read(self, source: AsyncIterable[Submittable]) -> None:
        try:
            async with _closing(source):
                async for item in source:
                    self._submit_item(item)
                    while not self._has_room():
                        self._room.clear()
                        await self._room.wait()
        except Exception as error:  # noqa: BLE001 - raised where the user iterates, not among the client's own tasks
            self._error = error
        finally:
            self._is_exhausted = True
            self._wake.set()

    def _has_room(self) -> bool:
        """Return whether one more item may be submitted. Finished jobs that were not yielded yet count as well."""
        return self._unfinished + len(self._finished) < self._max_pending

    def _submit_item(self, item: Submittable) -> None:
        check_request(item)
        job = item if isinstance(item, Job) else self._submit(item)
        self._unfinished += 1
        state_of(job).add_done_callback(lambda _: self._note_finished(job))

    def _note_finished(self, job: Job) -> None:
        self._unfinished -= 1
        self._finished.append(job)
        self._wake.set()


class ResumeIterator(AsyncIterator[Job]):
    """Iterates over the unfinished jobs of a store, oldest first, and takes each up a while before it is yielded.

    `read_page(after)` returns the next records. `take_up(record)` continues one of them and returns its job. `spawn`
    starts a coroutine among the client's own asyncio tasks: jobs are taken up even if nothing iterates.
    """

    def __init__(
        self,
        read_page: Callable[[int], Awaitable[RecordPage]],
        *,
        max_pending: int,
        take_up: Callable[[JobRecord], Job],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        if max_pending < 1:
            raise ValueError(f"resume(max_pending={max_pending}): max_pending must be at least 1")
        self._read_page = read_page
        self._max_pending = max_pending
        self._take_up = take_up
        self._taken_up: deque[Job] = deque()
        self._unfinished = 0
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._is_draining = False
        self._exhausted = asyncio.Event()
        spawn(self._run)

    async def __anext__(self) -> Job:
        """Return the next job that was taken up.

        Raise `LedgerError` if the store cannot be read, and `ClientClosed` if the client was closed before the end.
        """
        while not self._taken_up:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._exhausted.is_set():
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        self._room.set()
        return self._taken_up.popleft()

    @property
    def is_exhausted(self) -> bool:
        """Whether every job was taken up."""
        return self._exhausted.is_set()

    async def drain(self) -> None:
        """Take up the remaining jobs, even if nothing iterates, and wait until that is done.

        The runtime calls it when the client is left normally. Unfinished jobs are still limited to `max_pending`.
        """
        self._is_draining = True
        self._room.set()
        await self._exhausted.wait()

    async def _run(self) -> None:
        after: int | None = 0
        try:
            while after is not None:
                page = await self._read_page(after)
                for record in page.records:
                    await self._wait_for_room()
                    self._add(self._take_up(record))
                after = page.after
        except Exception as error:  # noqa: BLE001 - raised where the user iterates, not among the client's own tasks
            _log.error("resume ends early, the remaining jobs stay in the ledger: %s", error)  # nothing may iterate
            self._error = error
        except asyncio.CancelledError:
            self._error = ClientClosed(
                "the client was closed before resume had taken up all jobs; they stay in the ledger"
            )
            raise
        finally:
            self._exhausted.set()
            self._wake.set()

    async def _wait_for_room(self) -> None:
        """Wait until fewer than `max_pending` jobs are unfinished, and as few have not been yielded."""
        while not self._has_room():
            self._room.clear()
            await self._room.wait()

    def _has_room(self) -> bool:
        not_yielded = 0 if self._is_draining else len(self._taken_up)
        return max(self._unfinished, not_yielded) < self._max_pending

    def _add(self, job: Job) -> None:
        self._unfinished += 1
        state_of(job).add_done_callback(self._on_done)
        self._taken_up.append(job)
        self._wake.set()

    def _on_done(self, _: JobState) -> None:
        self._unfinished -= 1
        self._room.set()


def _closing(source: AsyncIterable[Submittable]) -> AbstractAsyncContextManager[object]:
    """Return a context that closes an async generator at its end; other sources have nothing to close."""
    return aclosing(source) if isinstance(source, AsyncGenerator) else nullcontext()
