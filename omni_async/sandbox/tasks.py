"""The life of a task: accepted, rendered, and finished when its duration is over and its clips exist.

`TaskRunner` also keeps the account: it charges a task when it is accepted and refunds it when it fails.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import secrets
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .record import SandboxRecord, TaskRecord
from .references import ReferenceUnavailable
from .render_pool import RenderError
from .replies import ErrorReply, error_reply, parameter_error
from .translations import FAILED, QUOTA, REVIEW, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clips import Clip
    from .settings import SandboxSettings
    from .submit_body import SubmitBody


CREDITS_PER_DOLLAR = 10
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the alphabet of ULIDs, which the service's task ids resemble
# The least number of seconds until a slot: 0 would mean that one is free. The task that is due first may be late,
# because its clip is still being rendered. The size hardly matters, since Retry-After is rounded up to full seconds.
MIN_SLOT_DELAY = 0.05
# The forms of `error` that documentation and clients of the service show.
FAILURES: tuple[dict[str, Any], ...] = (
    {"code": 400, "message": REVIEW, "type": "invalid_request_error"},
    {"code": "task_failed", "message": FAILED, "type": "task_failed", "param": ""},
    {"code": "", "message": TIMEOUT},
    {"code": "500", "message": QUOTA, "type": "server_error"},
)


@dataclass(slots=True, eq=False)
class Task:
    """One accepted submit. `created` and `ended` are Unix times, `started` and `due` times of the loop's clock."""

    task_id: str
    api_key: str
    body: SubmitBody
    seconds: int  # length of the clip
    price: float  # USD
    created: float
    started: float
    due: float
    faults: frozenset[str]  # those that it keeps for its lifetime
    will_fail: bool
    status: str = "running"
    ended: float | None = None
    error: dict[str, Any] | None = None
    clips: list[Clip] = field(default_factory=list)

    @property
    def credits(self) -> float:
        """Its price in credits."""
        return round(self.price * CREDITS_PER_DOLLAR, 6)

    def elapsed_share(self, now: float) -> float:
        """Return the share of its duration that is over, 0 to 1, at a time of the loop's clock."""
        return min(1.0, (now - self.started) / max(1e-9, self.due - self.started))


class TaskRunner:
    """All tasks of a sandbox, and the account that pays for them.

    `render` is called once for each task that will not fail, right after it was accepted, and returns its clips.
    `on_end` is called after a task has completed or failed.
    """

    def __init__(
        self, settings: SandboxSettings, record: SandboxRecord, render: Callable[[Task], Awaitable[list[Clip]]]
    ) -> None:
        self.tasks: dict[str, Task] = {}
        self.credits_spent: float = 0.0
        self.credits_spent_by_key: defaultdict[str, float] = defaultdict(float)  # by API key
        self.on_end: Callable[[Task], Awaitable[None]] | None = None
        self._settings, self._record, self._render = settings, record, render
        self._random = random.Random(f"{settings.seed}:tasks")
        self._running: dict[str, dict[str, Task]] = {}  # by API key, then task id
        self._background: set[asyncio.Task[None]] = set()

    def find(self, task_id: str) -> Task | None:
        """Return the task with this id, None if there is none."""
        return self.tasks.get(task_id)

    def seconds_until_slot(self, api_key: str) -> float:
        """Return 0 if this key may start one more task, else the estimated seconds until it may."""
        running, limit = self._running.get(api_key, {}), self._settings.max_in_flight
        if limit is None or len(running) < limit:
            return 0.0
        now = asyncio.get_running_loop().time()
        return max(MIN_SLOT_DELAY, min(task.due for task in running.values()) - now)

    def parent_of(self, body: SubmitBody) -> Task | None:
        """Return the task that a submit extends. Raise `ErrorReply` if it is unknown or not completed."""
        if body.parent_id is None:
            return None
        parent = self.tasks.get(body.parent_id)
        if parent is None and self._settings.foreign_parents:
            return None
        if parent is None:
            raise parameter_error(f"extend_from_task_id: unknown task {body.parent_id}")
        if parent.status != "completed":
            raise parameter_error(f"extend_from_task_id: task {body.parent_id} is {parent.status}, not completed")
        return parent

    def accept(self, body: SubmitBody, api_key: str, idempotency_key: str | None, faults: frozenset[str]) -> Task:
        """Create a task and start it. Raise `ErrorReply` (402) if the account cannot pay for it."""
        seconds = self._length_of(body)
        price = round(body.price(seconds) * self._settings.videos_per_task, 6)
        available = self.credits_left(api_key)
        if available is not None and available < price * CREDITS_PER_DOLLAR - 1e-9:  # 1e-9: rounding errors of floats
            raise self.insufficient_balance()
        now, settings = asyncio.get_running_loop().time(), self._settings
        deviation = self._random.gauss(0, 1)
        task = Task(
            task_id=self._new_id(),
            api_key=api_key,
            body=body,
            seconds=seconds,
            price=price,
            created=time.time(),
            started=now,
            due=now + settings.median * math.exp(settings.sigma * deviation) / settings.speed,
            faults=faults,
            will_fail=self._random.random() < settings.fail_rate,
        )
        self._start(task, idempotency_key)
        return task

    def _start(self, task: Task, idempotency_key: str | None) -> None:
        self.tasks[task.task_id] = task
        self._charge(task, task.credits)
        self._running.setdefault(task.api_key, {})[task.task_id] = task
        self._record.record_task(
            TaskRecord(
                task_id=task.task_id,
                prompt=task.body.prompt,
                idempotency_key=idempotency_key,
                body=task.body.for_record(),
                created=task.created,
                seconds=task.seconds,
                price=task.price,
            )
        )
        background = asyncio.create_task(self._run(task), name=f"sandbox {task.task_id}")
        self._background.add(background)
        background.add_done_callback(self._background.discard)

    async def _run(self, task: Task) -> None:
        if task.will_fail:
            task.error = self._random.choice(FAILURES)
        else:
            try:
                task.clips = await self._render(task)
            except (ReferenceUnavailable, RenderError, OSError) as error:
                task.error = {"code": "task_failed", "message": str(error), "type": "task_failed", "param": ""}
        await asyncio.sleep(task.due - asyncio.get_running_loop().time())
        self._end(task)
        if self.on_end is not None:
            await self.on_end(task)

    def _end(self, task: Task) -> None:
        task.ended = time.time()
        task.status = "failed" if task.error else "completed"
        if task.error:
            self._charge(task, -task.credits)
        del self._running[task.api_key][task.task_id]
        self._record.record_end(task.task_id, task.status, task.ended)

    async def aclose(self) -> None:
        """Cancel the tasks that are still running, and their webhooks."""
        background = list(self._background)
        for each in background:
            each.cancel()
        await asyncio.gather(*background, return_exceptions=True)

    @property
    def account_credits_left(self) -> float | None:
        """The credits left on the account; None if unlimited."""
        return None if self._settings.credits is None else round(self._settings.credits - self.credits_spent, 6)

    def credits_left(self, api_key: str) -> float | None:
        """Return the credits that this key may still spend; None if unlimited."""
        own = self._settings.key_credits
        limits = [] if own is None else [round(own - self.credits_spent_by_key[api_key], 6)]
        account = self.account_credits_left
        return min([*limits, *(() if account is None else (account,))], default=None)

    def _charge(self, task: Task, amount: float) -> None:
        self.credits_spent += amount
        self.credits_spent_by_key[task.api_key] += amount

    @staticmethod
    def insufficient_balance() -> ErrorReply:
        """Return the 402 of an account that cannot pay."""
        return error_reply(402, "insufficient account balance, please top up and try again")

    def _length_of(self, body: SubmitBody) -> int:
        """Return the length of the clip in seconds: as requested, else as configured, else 3 to 10 from a hash."""
        if body.seconds is not None:
            return body.seconds
        if self._settings.seconds is not None:
            return self._settings.seconds
        digest = hashlib.sha256(f"{self._settings.seed}:{body.digest}".encode()).digest()
        return 3 + digest[0] % 8

    def _new_id(self) -> str:
        """Return `task_` and a ULID: 48 bits of milliseconds and 80 random bits, in base 32."""
        number = (int(time.time() * 1000) & (1 << 48) - 1) << 80 | secrets.randbits(80)
        return "task_" + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))
