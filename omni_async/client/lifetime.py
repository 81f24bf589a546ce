"""`Lifetime`: a client is opened once and closed once.

It keeps the runtime in between, and refuses what comes before, after, or from another event loop. Used by `OmniClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ClientClosed
from .listener import ListenerHooks
from .runtime import preload_backend
from .threads import check_loop, running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runtime import ClientRuntime


class Lifetime:
    """The opening and closing of one client. `listener` is its `on_event`."""

    def __init__(self, listener: object) -> None:
        self._hooks = ListenerHooks(listener)
        self._runtime: ClientRuntime | None = None
        self._is_closed = False

    async def open(self, client: object, make_runtime: Callable[[], ClientRuntime]) -> None:
        """Make the runtime of a client and wait until its stages run."""
        if running_loop() is None:  # a coroutine, but of Trio, for example
            raise RuntimeError("OmniClient needs the event loop of asyncio, and none is running here: use asyncio.run")
        await preload_backend()
        if self._is_closed:
            raise ClientClosed("this client is closed, and a client is opened once; make another OmniClient")
        if self._runtime is not None:
            raise ClientClosed("this client is open already; to open another one, first `await client.aclose()`")
        self._runtime = make_runtime()
        try:
            await self._runtime.open()
        except BaseException:
            self._is_closed = True
            raise
        if self._is_closed:  # by another asyncio task, in the meantime
            raise ClientClosed("this client was closed while it was being opened; make another OmniClient")
        self._hooks.open(client)

    async def leave(self, error: BaseException | None) -> None:
        """Close after ``async with``: when every job is done, or immediately if an error has left the block."""
        runtime = self.entered()
        self.check_loop()
        try:
            if error is None:
                await runtime.wait_until_idle()
        finally:
            await self._close(runtime)
        if error is None and runtime.failure is not None:
            raise runtime.failure

    async def close(self) -> None:
        """Close without waiting for any job. Raise, once, what made the client fail."""
        runtime, was_closed = self._runtime, self._is_closed
        if runtime is not None and not (runtime.is_closed and running_loop() is not runtime.loop):
            self.check_loop()
            await self._close(runtime)
        self._is_closed = True
        if runtime is not None and runtime.failure is not None and not was_closed:
            raise runtime.failure

    async def _close(self, runtime: ClientRuntime) -> None:
        self._is_closed = True
        try:
            await runtime.close()
        finally:
            self._hooks.close()

    def opened(self) -> ClientRuntime:
        """Return the runtime if it is open and this is its event loop."""
        if running_loop() is not None:
            self.check_loop()  # first: a client of another event loop was closed when that loop ended
        runtime = self.unclosed()
        self.check_loop()
        return runtime

    def unclosed(self) -> ClientRuntime:
        """Return the runtime if it is open, in any thread."""
        runtime = self.entered()
        if self._is_closed or runtime.is_closed:
            raise ClientClosed("this client is closed; make another OmniClient") from runtime.failure
        return runtime

    def entered(self) -> ClientRuntime:
        """Return the runtime, open or closed."""
        if self._runtime is None:
            raise ClientClosed(
                "this client is not open; use it inside `async with OmniClient(...) as client:`, or first "
                "`await client.open()`"
            )
        return self._runtime

    def check_loop(self) -> None:
        """Raise `RuntimeError` outside of the event loop in which the client was opened."""
        if self._runtime is not None:
            check_loop(self._runtime.loop)

    def __str__(self) -> str:
        is_closed = self._is_closed or (self._runtime is not None and self._runtime.is_closed)
        return "closed" if is_closed else "not open" if self._runtime is None else "open"
