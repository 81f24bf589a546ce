"""Virtual time: an event loop that advances its clock to the next timer when nothing is ready.

An hour of sleep takes no real time. Used by tests of clients of a `MemoryServer`, by this project's tests and by its
benchmarks.

Limits. Other processes, other threads and the network do not follow virtual time: code that waits for one of them
while a timer is set sees the timer fire immediately. Clients of a sandbox therefore need real time. Work that is meant
for threads, like writing files, runs inside the loop, see `inline_threads`. A ledger in a file has its own thread: use
``ledger=None``. `time.time()` and `time.sleep()` use real time; a `MemoryClient` takes its wall clock from the loop.
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

# The virtual time in seconds at which a run is taken to be endless. The longest periods that the library knows
# are 24 h (an idempotency key) and 72 h (an uploaded image), so half or double detects an endless loop just as well.
_MAX_TIME = 30 * 86_400.0
# A clock that starts above zero, as a real monotonic clock does: code that mistakes time 0 for "never" fails in tests.
_START_TIME = 1000.0
# aiolimiter computes a delay that can round down to zero and then sets the same timer again, endlessly. After this
# many timers without progress the clock is advanced by a microsecond. Fewer could disturb programs that set many timers
# for the same moment; more only costs iterations.
_MAX_IDLE_TURNS = 100
_NUDGE = 1e-6  # seconds
# The virtual duration of work that would run in a thread. Any positive time lets other asyncio tasks run meanwhile, as
# they do with a real thread. Chosen, not measured.
_THREAD_SECONDS = 0.005


class Deadlock(RuntimeError):
    """The program would hang: nothing is ready, no timer is set, and a coroutine still waits."""


class _VirtualSelector(selectors.SelectSelector):
    """A selector that advances the clock, instead of waiting, when no socket is ready."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            self.loop.advance(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. Use it with `inline_threads`: real threads would lose every race with a timer."""

    def __init__(self) -> None:
        selector = _VirtualSelector()
        selector.loop = self
        self._now = _START_TIME
        self._idle_turns = 0
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run the function immediately, in the loop: virtual time would not wait for a thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - raised again where the future is awaited
            future.set_exception(error)
        return future

    def advance(self, seconds: float | None) -> None:
        """Advance the clock by this many seconds, to the next timer. None means that no timer is set."""
        if seconds is None:
            raise Deadlock("every asyncio task is waiting and no timer is set: the program would hang")
        if seconds > 0:
            self._now += seconds
            self._idle_turns = 0
        elif not self._ready:  # type: ignore[attr-defined]  # a timer fires without time passing
            self._idle_turns += 1
            if self._idle_turns > _MAX_IDLE_TURNS:
                self._now += _NUDGE
        if self._now > _MAX_TIME:
            raise Deadlock(f"the program is still running after {_MAX_TIME / 86_400:g} days of virtual time")


class VirtualClock:
    """A runner for coroutines on virtual time: ``VirtualClock().run(main())``, like ``asyncio.run(main())``."""

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in a new event loop and return its result. Raises `Deadlock` where it would hang."""
        with inline_threads(), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(main)


@contextmanager
def inline_threads() -> Iterator[None]:
    """Run work that is meant for threads inside the event loop, within this block.

    `VirtualClock` does this itself. It is needed where a `VirtualTimeLoop` is run by other means, for example by the
    fixture `anyio_backend` of anyio's pytest plugin.
    """
    with patch.object(anyio.to_thread, "run_sync", run_inline):
        yield


async def run_inline(work: Callable[..., _T], *args: Any, **_: Any) -> _T:
    """Replace `anyio.to_thread.run_sync`: run inline, with the same cancellation, in a little virtual time."""
    await anyio.lowlevel.checkpoint()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(_THREAD_SECONDS)
    return work(*args)
