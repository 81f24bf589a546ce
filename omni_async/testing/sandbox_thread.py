"""A sandbox that runs in a thread with its own event loop, for synchronous and asynchronous tests alike.

Used by the fixture `omni_sandbox` and by tests that start a sandbox themselves.
"""

from __future__ import annotations

import asyncio
import copy
import math
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..sandbox import Sandbox, SandboxSettings
from .assertions import PaymentAssertions
from .records import PaidTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..sandbox import SandboxRecord, TaskRecord


_T = TypeVar("_T")

# Seconds for the thread to start serving, or to end. Starting takes well under a second on an idle machine; the limit
# only turns a hang into an error, so it is long enough for a machine that is busy with other tests.
_START_TIMEOUT = 30.0
_CALL_TIMEOUT = 10.0  # seconds for a call in the thread, likewise: each takes milliseconds
# Tests wait for their tasks: 0.05 s each, without variation, and one clip for all of them. Rendering a clip per task
# would take most of a test's time.
_DEFAULTS: dict[str, Any] = {"median": 0.05, "sigma": 0.0, "prerendered": True}


class SandboxThread(PaymentAssertions):
    """A sandbox as a context manager: ``with SandboxThread(median=0.2) as sandbox: ...``.

    Takes the settings of `omni_async.sandbox.Sandbox`. By default each task takes 0.05 s, and all clips are copies of
    one rendered clip that differ in a trailing box.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings: SandboxSettings = SandboxSettings(**_DEFAULTS | settings)
        self._started: Future[Sandbox] = Future()
        self._thread = threading.Thread(target=self._run, name="omni_async sandbox", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._sandbox = self._started.result(_START_TIMEOUT)
        except BaseException:
            self._shut_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._shut_down()

    # Address

    @property
    def base_url(self) -> str:
        """The base URL of its API."""
        return self._sandbox.base_url

    @property
    def api_key(self) -> str:
        """An API key that it accepts."""
        return self._sandbox.api_key

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point an `OmniClient()` at it, in this process or another."""
        return {"APIMART_BASE_URL": self.base_url, "APIMART_API_KEY": self.api_key}

    # Faults

    def fault(self, name: str, chance: float = 1.0) -> None:
        """Apply a fault to each following request with this probability; 0 switches it off.

        `omni_async.sandbox.FAULTS` and `omni-async sandbox --fault list` list the names. Raises `ValueError` for an
        unknown name or a probability outside 0 to 1.
        """
        self._call(lambda: self._sandbox.fault(name, chance))

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind (submit, check, clip, upload), one each; None for none."""
        names = list(names)
        self._call(lambda: self._sandbox.script(kind, names))

    # Record

    @property
    def record(self) -> SandboxRecord:
        """A copy of the record of everything clients did so far."""
        return self._call(lambda: copy.deepcopy(self._sandbox.record))

    @property
    def submits(self) -> int:
        """The number of POSTs received, rejected ones included."""
        return self._call(lambda: self._sandbox.record.submits)

    @property
    def checks(self) -> int:
        """The number of status requests received."""
        return self._call(lambda: self._sandbox.record.checks)

    @property
    def paid(self) -> float:
        """The cost of all tasks in USD, without failed ones: their price is refunded."""
        return self._call(lambda: self._sandbox.record.paid)

    @property
    def tasks(self) -> list[TaskRecord]:
        """The accepted tasks, in order of acceptance."""
        return list(self.record.tasks.values())

    def paid_tasks(self) -> list[PaidTask]:
        """Return the accepted tasks, in order of acceptance."""
        record = self.record
        return [
            PaidTask(
                task.task_id,
                task.body,
                task.created,
                math.inf if task.completed is None else task.completed,
                fails=task.status == "failed",
                idempotency_key=task.idempotency_key,
                is_downloaded=record.downloads_by_task[task.task_id] > 0,
            )
            for task in record.tasks.values()
        ]

    def tasks_awaiting_download(self) -> list[PaidTask]:
        """Return the tasks that have a finished clip that no client has requested."""
        now = time.time()
        return [task for task in self.paid_tasks() if task.awaits_download(now)]

    # The thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with Sandbox(self.settings) as sandbox:
            self._started.set_result(sandbox)
            await self._stop.wait()

    def _shut_down(self) -> None:
        self._call_soon(self._stop.set)
        self._thread.join(_START_TIMEOUT)
        if self._thread.is_alive():
            raise RuntimeError(f"the sandbox thread did not end within {_START_TIMEOUT:g} s")

    def _call(self, function: Callable[[], _T]) -> _T:
        """Call a function in the sandbox's thread, between two steps of its event loop, and return its result."""
        result: Future[_T] = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                result.set_exception(error)

        if not self._call_soon(run):
            raise RuntimeError("this sandbox is not running; use it inside its `with` block")
        return result.result(_CALL_TIMEOUT)

    def _call_soon(self, callback: Callable[[], object]) -> bool:
        """Have the event loop call a function; return whether there is one that takes it."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed, which happens a moment before its thread ends
            return False
        return True
