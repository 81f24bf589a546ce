"""A sandbox in a thread, with an event loop of its own: it serves tests of any style, also such without a loop."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..sandbox import Sandbox, SandboxSettings
from .assertions import PaidTask, PaymentAssertions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..sandbox import SandboxRecord, TaskRecord


_T = TypeVar("_T")

_START = 30.0  # seconds that it gets to serve, or to end
_ANSWER = 10.0  # ... to answer what it is asked
_DEFAULTS: dict[str, Any] = {"median": 0.05, "sigma": 0.0, "prerendered": True}


class SandboxThread(PaymentAssertions):
    """``with SandboxThread(median=0.2) as sandbox: ...``; what the fixture `omni_sandbox` gives.

    Takes the settings of `omni_async.sandbox.Sandbox`; unless told otherwise its tasks take a twentieth of a second,
    and all clips are the same real one, made distinct by a trailing box.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = SandboxSettings(**_DEFAULTS | settings)
        self._started: Future[Sandbox] = Future()
        self._thread = threading.Thread(target=self._run, name="omni_async sandbox", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._sandbox = self._started.result(_START)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    # Where it is

    @property
    def base_url(self) -> str:
        """The address of its API."""
        return self._sandbox.base_url

    @property
    def api_key(self) -> str:
        """A key that it takes."""
        return self._sandbox.api_key

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead an `OmniClient()`, also one in another process, to it."""
        return {"APIMART_BASE_URL": self.base_url, "APIMART_API_KEY": self.api_key}

    # What shall go wrong

    def fault(self, name: str, chance: float = 1.0) -> None:
        """Switch a fault on, from now on, with this probability; 0 switches it off.

        `omni_async.sandbox.FAULTS` (or `omni-async sandbox --fault list`) tells all the names. Raises `ValueError` for
        another one.
        """
        self._ask(lambda: self._sandbox.fault(name, chance))

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind (submit, check, clip, upload); None lets one pass."""
        names = list(names)
        self._ask(lambda: self._sandbox.script(kind, names))

    # What was asked and paid

    @property
    def record(self) -> SandboxRecord:
        """All that clients did so far, as a copy."""
        return self._ask(lambda: copy.deepcopy(self._sandbox.record))

    @property
    def submits(self) -> int:
        """How many POSTs have arrived, refused ones included."""
        return self._ask(lambda: self._sandbox.record.submits)

    @property
    def checks(self) -> int:
        """How many status requests have arrived."""
        return self._ask(lambda: self._sandbox.record.checks)

    @property
    def paid(self) -> float:
        """What was bought so far, in USD: what failed is given back."""
        return self._ask(lambda: self._sandbox.record.paid)

    @property
    def tasks(self) -> list[TaskRecord]:
        """The tasks that were bought, in this order."""
        return list(self.record.tasks.values())

    def paid_tasks(self) -> list[PaidTask]:
        """Give the tasks that were bought, in this order."""
        record = self.record
        return [
            PaidTask(
                task.task_id,
                task.prompt,
                task.idempotency_key,
                task.status == "completed" and not record.downloads_by_task[task.task_id],
            )
            for task in record.tasks.values()
        ]

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

    def _end(self) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START)
        if self._thread.is_alive():
            raise RuntimeError(f"the sandbox's thread has not ended within {_START:g} s")

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Have something done in the sandbox's own thread, between two of its turns."""
        answer: Future[_T] = Future()

        def work() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:  # noqa: BLE001 - it belongs to the one who asks
                answer.set_exception(error)

        if self._loop is None or not self._thread.is_alive():
            raise RuntimeError("this sandbox does not serve: ask it within its `with` block")
        self._loop.call_soon_threadsafe(work)
        return answer.result(_ANSWER)
