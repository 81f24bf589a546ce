"""The life of a task: accepted, filmed, finished when its time is over and its clip is there."""

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
from .replies import ErrorReply, error_reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clips import Clip
    from .settings import SandboxSettings
    from .submit_body import SubmitBody


CREDITS_PER_DOLLAR = 10
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FAILURES: tuple[dict[str, Any], ...] = (
    {"code": 400, "message": "The request was rejected by content review", "type": "invalid_request_error"},
    {"code": "task_failed", "message": "upstream generation failed", "type": "task_failed", "param": ""},
    {"code": "", "message": "upstream timeout"},
    {"code": "500", "message": "upstream quota exhausted, please try again later", "type": "server_error"},
)


@dataclass(slots=True, eq=False)
class Task:
    """One accepted order."""

    task_id: str
    api_key: str
    body: SubmitBody
    seconds: int
    price: float
    created: float
    started: float  # on the loop's clock, like `due`
    due: float
    faults: frozenset[str]
    will_fail: bool
    status: str = "running"
    ended: float | None = None
    error: dict[str, Any] | None = None
    clips: list[Clip] = field(default_factory=list)

    @property
    def credits(self) -> float:
        """Its price in credits."""
        return round(self.price * CREDITS_PER_DOLLAR, 2)

    def elapsed_share(self, now: float) -> float:
        """How much of its time is over, 0 to 1, at a time of the loop's clock."""
        return min(1.0, (now - self.started) / max(1e-9, self.due - self.started))


class TaskRunner:
    """All tasks of a sandbox, and the account they are paid from."""

    def __init__(
        self, settings: SandboxSettings, record: SandboxRecord, film: Callable[[Task], Awaitable[list[Clip]]]
    ) -> None:
        self.tasks: dict[str, Task] = {}
        self.credits_spent = 0.0  # credits
        self.credits_spent_by_key: defaultdict[str, float] = defaultdict(float)  # the same by API key
        self.on_end: Callable[[Task], Awaitable[None]] | None = None
        self._settings, self._record, self._film = settings, record, film
        self._jitter = random.Random(f"{settings.seed}:tasks")
        self._running: dict[str, dict[str, Task]] = {}  # by API key, then task id
        self._lives: set[asyncio.Task[None]] = set()

    def find(self, task_id: str) -> Task | None:
        """The task of that id."""
        return self.tasks.get(task_id)

    def seconds_until_slot(self, api_key: str) -> float:
        """0 if this key may have one more task, else a guess at the seconds until it may."""
        running, most = self._running.get(api_key, {}), self._settings.max_in_flight
        if most is None or len(running) < most:
            return 0.0
        now = asyncio.get_running_loop().time()
        return max(0.05, min(task.due for task in running.values()) - now)

    def parent_of(self, order: SubmitBody) -> Task | None:
        """The task an order goes on from; raises Refusal if there is none, or it is not done."""
        if order.parent_id is None:
            return None
        parent = self.tasks.get(order.parent_id)
        if parent is None and self._settings.foreign_parents:
            return None
        if parent is None:
            raise error_reply(400, f"extend_from_task_id: unknown task {order.parent_id}")
        if parent.status != "completed":
            raise error_reply(400, f"extend_from_task_id: task {order.parent_id} is {parent.status}, not completed")
        return parent

    def accept(self, order: SubmitBody, api_key: str, idempotency_key: str | None, quirks: frozenset[str]) -> Task:
        """Take an order; raises Refusal (402) if the account cannot pay it."""
        seconds = self._seconds(order)
        price = round(order.price(seconds) * self._settings.videos_per_task, 2)
        left = self.credits_left(api_key)
        if left is not None and left < price * CREDITS_PER_DOLLAR - 1e-9:
            raise self.insufficient_balance()
        now, settings = asyncio.get_running_loop().time(), self._settings
        spread = self._jitter.gauss(0, 1)
        task = Task(
            task_id=self._new_id(),
            api_key=api_key,
            body=order,
            seconds=seconds,
            price=price,
            created=time.time(),
            started=now,
            due=now + settings.median * math.exp(settings.sigma * spread) / settings.speed,
            faults=quirks,
            will_fail=self._jitter.random() < settings.fail_rate,
        )
        self._enter(task, idempotency_key)
        return task

    def _enter(self, task: Task, idempotency_key: str | None) -> None:
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
        life = asyncio.create_task(self._live(task), name=f"sandbox {task.task_id}")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    async def _live(self, task: Task) -> None:
        if task.will_fail:
            task.error = self._jitter.choice(FAILURES)
        else:
            try:
                task.clips = await self._film(task)
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
        """Let go of whatever still runs."""
        lives = list(self._lives)
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    @property
    def account_credits_left(self) -> float | None:
        """Credits left; None is without end."""
        return None if self._settings.credits is None else round(self._settings.credits - self.credits_spent, 2)

    def credits_left(self, api_key: str) -> float | None:
        """Credits that this key may still spend; None is without end."""
        own = self._settings.key_credits
        left = [] if own is None else [round(own - self.credits_spent_by_key[api_key], 2)]
        return min([*left, *(() if self.account_credits_left is None else (self.account_credits_left,))], default=None)

    def _charge(self, task: Task, amount: float) -> None:
        self.credits_spent += amount
        self.credits_spent_by_key[task.api_key] += amount

    @staticmethod
    def insufficient_balance() -> ErrorReply:
        """The account cannot pay."""
        return error_reply(402, "insufficient account balance, please top up and try again")

    def _seconds(self, order: SubmitBody) -> int:
        if order.seconds is not None:
            return order.seconds
        if self._settings.seconds is not None:
            return self._settings.seconds
        digest = hashlib.sha256(f"{self._settings.seed}:{order.digest}".encode()).digest()
        return 3 + digest[0] % 8

    def _new_id(self) -> str:
        number = (int(time.time() * 1000) & (1 << 48) - 1) << 80 | secrets.randbits(80)
        return "task_" + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))
