"""Virtual time: an event loop that jumps to its next timer when nothing is ready; an hour of sleep costs nothing.

What it cannot do. Another process, another thread and the network do not jump: whoever waits for one of them while a
timer runs sees the timer fire at once. So it is for clients of a `MemoryServer`, and not for those of a sandbox. Files
are written by threads; `inline_threads` has that done at once, in the loop. A ledger in a file has a thread of its own:
take ``ledger=None``. `time.time()` and `time.sleep()` do not jump; a client of a `MemoryServer` tells wall time by the
loop.
"""

from __future__ import annotations

import asyncio
import selectors
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


_T = TypeVar("_T")

_END_OF_TIME = 30 * 86_400.0
_STANDING_STILL = 100  # turns without a tick before the clock is pushed on


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is set, and somebody still waits: it would hang for ever."""


class _VirtualSelector(selectors.SelectSelector):
    """Looks at the sockets, and where nothing is ready there moves the clock instead of waiting."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            self.loop.jump(timeout)
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only jumps. Work for threads must run inline: real threads would lose every race."""

    def __init__(self) -> None:
        selector = _VirtualSelector()
        selector.loop = self
        self._virtual = 1000.0
        self._still = 0
        super().__init__(selector)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._virtual

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do it at once, in the loop: the clock would not wait for a thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is told to whoever waits
            future.set_exception(error)
        return future

    def jump(self, seconds: float | None) -> None:
        """Move the clock on to the next timer."""
        if seconds is None:
            raise Deadlock("every asyncio task waits for something that nobody will do")
        if seconds > 0:
            self._virtual += seconds
            self._still = 0
        elif not self._ready:  # type: ignore[attr-defined]  # a timer fires without time passing
            self._still += 1
            if self._still > _STANDING_STILL:  # aiolimiter re-arms a timer at "now" for ever (its rounding dust)
                self._virtual += 1e-6
        if self._virtual > _END_OF_TIME:
            raise Deadlock("a month of virtual time has passed, and it still goes on")


class VirtualClock:
    """Runs coroutines on virtual time: ``VirtualClock().run(main())``, as `asyncio.run` does on the real one."""

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, in a loop of its own, and give its result. Raises `Stuck` where it would hang."""
        with inline_threads(), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(main)


@contextmanager
def inline_threads() -> Iterator[None]:
    """Have work that is meant for threads done at once, in the loop, for as long as this block lasts.

    For those who bring the `VirtualTimeLoop` to run by other means, such as the fixture `anyio_backend`.
    """
    with patch.object(anyio.to_thread, "run_sync", run_inline):
        yield


async def run_inline(work: Callable[..., _T], *args: Any, **_: Any) -> _T:
    """Stand in for `anyio.to_thread.run_sync`: inline, with the same cancellation, and taking a little virtual time."""
    await anyio.lowlevel.checkpoint()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.005)
    return work(*args)
