"""Single questions to the server: a task, the balance, the models. They cost nothing and are repeated."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio

from ..errors import RateLimited, ServerError, TransportError
from ..ratelimit.backoff import retry_delay
from .parsing import Response, parse_balance, parse_error, parse_models, parse_retry_after, parse_schema, parse_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..models.responses import Balance, Task
    from ..settings import BalanceScope, Retry
    from ..timing import Clock
    from .transport import Transport


_T = TypeVar("_T")

_MAX_RETRY_SECONDS = 60.0  # seconds that a single question is repeated: somebody sits and waits
_BALANCE_PATHS = {"key": "/v1/balance", "account": "/v1/user/balance"}


class ApiQueries:
    """Asks one thing at a time and tells what came of it."""

    def __init__(self, transport: Transport, retry: Retry, clock: Clock) -> None:
        self._transport = transport
        self._retry = retry
        self._clock = clock

    async def task(self, task_id: str) -> Task:
        """Ask how a task stands."""
        return await self._query(
            f"task {task_id}", lambda: self._transport.check(task_id), lambda reply: parse_task(reply, task_id)
        )

    async def balance(self, scope: BalanceScope) -> Balance:
        """Ask what is left."""
        path = _BALANCE_PATHS.get(scope)
        if path is None:
            raise ValueError(f"balance({scope!r}): scope must be 'key' or 'account'")
        return await self._query(f"balance of the {scope}", lambda: self._transport.get(path), parse_balance)

    async def models(self) -> list[str]:
        """Ask which models there are."""
        return await self._query("models", lambda: self._transport.get("/v1/models"), parse_models)

    async def model_schema(self, model: str) -> dict[str, Any]:
        """Ask what the server says of a model."""
        path = f"/v1/model-schema?model={quote(model, safe='')}&operation=video_generation"
        return await self._query(f"model {model}", lambda: self._transport.get(path), parse_schema)

    async def _query(
        self, about: str, question: Callable[[], Awaitable[Response]], read: Callable[[Response], _T | None]
    ) -> _T:
        """Ask until there is an answer, a clear no, or no more time."""
        ends_at = self._clock.now() + min(_MAX_RETRY_SECONDS, self._retry.timeout)
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
                refusal = parse_error(reply, now=self._clock.wall(), operation=about)
                if not isinstance(refusal, (ServerError, RateLimited)):
                    raise refusal
                trouble, advice = refusal, parse_retry_after(reply, self._clock.wall())
            pause = retry_delay(advice, attempt, self._retry, random.random())
            if self._clock.now() + pause > ends_at:
                raise trouble
            attempt += 1
            await anyio.sleep(pause)
