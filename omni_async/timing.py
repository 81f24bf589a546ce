"""`Clock` reads the time; `WakeEvent` waits for an event or for a time. Every stage of a job uses both.

`raise_if_cancelled` tells a cancellation from a fault that looks like one; `cancel_and_wait` ends asyncio tasks.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CANCEL_AGAIN = 2.0  # seconds for the clean-up of a cancelled task, before it is cancelled again


class Clock:
    """The two clocks of a client: the event loop's time for intervals, the wall-clock time for what is recorded.

    The client passes one instance to every stage, so that tests can replace it. It is for one event loop.
    """

    _loop_time: Callable[[], float] | None = None

    def now(self) -> float:
        """Return the time of the event loop in seconds. It only moves forward, from an arbitrary zero."""
        if self._loop_time is None:  # kept: to ask for the running loop is a system call, and this is called often
            self._loop_time = asyncio.get_running_loop().time
        return self._loop_time()

    def wall(self) -> float:
        """Return the wall-clock time in unix seconds. It may jump, but it means the same in the next process."""
        return time.time()


def raise_if_cancelled(error: BaseException) -> None:
    """Raise an error if it cancels the running asyncio task.

    A `CancelledError` may also come out of what the task has called, although the task was not cancelled: a library
    that cancels a task of its own leaks it. That is a fault like any other.
    """
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel asyncio tasks until all of them have ended, however often that takes. Their results are not looked at.

    Cancelling once is not enough where a task calls libraries. On Python 3.11, `asyncio.wait_for` swallows a
    cancellation that arrives together with the result: the task continues, and waiting for its end would never end.
    """
    pending = set(tasks)
    with anyio.CancelScope(shield=True):
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN)


class WakeEvent:
    """An event for one waiter, which may limit how long it waits. The event is cleared when the wait ends."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the waiter, or the next one if none is waiting."""
        self._event.set()

    async def wait(self, seconds: float | None) -> None:
        """Wait until the event is set, for at most `seconds` (None: without a limit)."""
        if seconds is None:
            await self._event.wait()
        else:
            # A timer that sets the event costs a tenth of a cancel scope, and stages wait often.
            timer = asyncio.get_running_loop().call_later(seconds, self._event.set)
            try:
                await self._event.wait()
            finally:
                timer.cancel()
        self._event.clear()
