"""Single questions to the server: a task, the balance, the models. They cost nothing and are repeated."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio

from ..errors import RateLimited, ServerError, TransportError
from ..ratelimit.backoff import retry_delay
from . import parsing as wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..models.responses import Balance, Task
    from ..settings import BalanceScope, Retry
    from .parsing import Response
    from .transport import Transport


_T = TypeVar("_T")

_LONGEST = 60.0  # seconds that a single question is repeated: somebody sits and waits
_BALANCES = {"key": "/v1/balance", "account": "/v1/user/balance"}


class ApiQueries:
    """Asks one thing at a time and tells what came of it."""

    def __init__(self, transport: Transport, retry: Retry) -> None:
        self._transport = transport
        self._retry = retry

    async def task(self, task_id: str) -> Task:
        """Ask how a task stands."""
        return await self._ask(
            f"task {task_id}", lambda: self._transport.check(task_id), lambda reply: wire.parse_task(reply, task_id)
        )

    async def balance(self, scope: BalanceScope) -> Balance:
        """Ask what is left."""
        path = _BALANCES.get(scope)
        if path is None:
            raise ValueError(f"balance({scope!r}): scope must be 'key' or 'account'")
        return await self._ask(f"balance of the {scope}", lambda: self._transport.get(path), wire.parse_balance)

    async def models(self) -> list[str]:
        """Ask which models there are."""
        return await self._ask("models", lambda: self._transport.get("/v1/models"), wire.parse_models)

    async def model_schema(self, model: str) -> dict[str, Any]:
        """Ask what the server says of a model."""
        path = f"/v1/model-schema?model={quote(model, safe='')}&operation=video_generation"
        return await self._ask(f"model {model}", lambda: self._transport.get(path), wire.parse_schema)

    async def _ask(
        self, about: str, question: Callable[[], Awaitable[Response]], read: Callable[[Response], _T | None]
    ) -> _T:
        """Ask until there is an answer, a clear no, or no more time."""
        ends_at = asyncio.get_running_loop().time() + min(_LONGEST, self._retry.timeout)
        attempt = 0
        while True:
            advice = None
            try:
                reply = await question()
            except TransportError as error:
                if error.permanent:
                    raise
                trouble: TransportError | ServerError | RateLimited = error
            else:
                answer = read(reply)
                if answer is not None:
                    return answer
                refusal = wire.parse_error(reply, now=time.time(), about=about)
                if not isinstance(refusal, (ServerError, RateLimited)):
                    raise refusal
                trouble, advice = refusal, wire.retry_after(reply, time.time())
            pause = retry_delay(advice, attempt, self._retry, random.random())
            if asyncio.get_running_loop().time() + pause > ends_at:
                raise trouble
            attempt += 1
            await anyio.sleep(pause)
