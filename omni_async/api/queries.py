"""`ApiQueries`: the single calls of `OmniClient`, such as `balance` and `models`. They are free, and are retried."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio

from ..errors import APIError, InvalidRequest, NotFound, RateLimited, ServerError, TransportError
from ..models.responses import Usage, UsageItem
from ..ratelimit.backoff import retry_delay
from .error_parsing import parse_error, parse_retry_after
from .idempotency import KeySupport, declared_support
from .parsing import Response, parse_balance, parse_models, parse_schema, parse_usage
from .task_parsing import parse_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..models.responses import Balance, Task
    from ..settings import BalanceScope, Retry
    from ..timing import Clock
    from .transport import Transport


_T = TypeVar("_T")

# Seconds for which a single call is retried, if `Retry.timeout` is not shorter. A caller waits for the result, often at
# a terminal, so this is less than what a job gets. Half ends calls in a short outage of the server, double makes
# `omni-async check` seem to hang.
_MAX_RETRY_SECONDS = 60.0
_MAX_USAGE_SECONDS = 31 * 86_400  # that the server answers at a time
_BALANCE_PATHS = {"key": "/v1/balance", "account": "/v1/user/balance"}


def _schema_path(model: str) -> str:
    return f"/v1/model-schema?model={quote(model, safe='')}&operation=video_generation"


def _usage_path(start: int, end: int, scope: str, time_zone: str) -> str:
    period = f"start={start}&end={end}&tz={quote(time_zone, safe='/')}"
    return f"/v1/usage?{period}&group_by=model,date&scope={scope}"


def _add(one: UsageItem, other: UsageItem) -> UsageItem:
    """Return the sum of two items of the same day and model: a day may be in two periods."""
    return replace(
        one,
        cost=one.cost + other.cost,
        credits=one.credits + other.credits,
        requests=one.requests + other.requests,
    )


def _is_cut_short(response: Response) -> bool:
    """Return whether a response would have held the result, had it been complete."""
    return bool(response.cut_short) and 200 <= response.status < 300


class ApiQueries:
    """Single calls of the API: each is retried while the server cannot be reached, fails, or asks to wait."""

    def __init__(self, transport: Transport, retry: Retry, clock: Clock) -> None:
        self._transport = transport
        self._retry = retry
        self._clock = clock

    async def task(self, task_id: str) -> Task:
        """Return a task."""
        return await self._query(
            f"task {task_id}",
            lambda: self._transport.check(task_id),
            lambda response: parse_task(response, task_id),
            is_lookup=True,
        )

    async def balance(self, scope: BalanceScope) -> Balance:
        """Return the balance of the API key or of the account. Raise `ValueError` for another scope."""
        path = _BALANCE_PATHS.get(scope)
        if path is None:
            raise ValueError(f"balance({scope!r}): scope must be 'key' or 'account'")
        return await self._query(f"balance of the {scope}", lambda: self._transport.get(path), parse_balance)

    async def usage(self, start: float, end: float, scope: BalanceScope, time_zone: str) -> Usage:
        """Return what was billed from `start` to `end` (Unix seconds), each day in that time zone.

        The server takes 31 days at a time. Raise `ValueError` for another scope, and for an end that is not after the
        start.
        """
        if scope not in _BALANCE_PATHS:
            raise ValueError(f"usage(scope={scope!r}): scope must be 'key' or 'account'")
        if not (isfinite(start) and isfinite(end) and start < end):
            raise ValueError(f"usage({start!r}, {end!r}): the end must be after the start")
        items: dict[tuple[str, str], UsageItem] = {}
        cost, requests = 0.0, 0
        first, last = floor(start), ceil(end)
        for begin in range(first, last, _MAX_USAGE_SECONDS):
            path = _usage_path(begin, min(last, begin + _MAX_USAGE_SECONDS), scope, time_zone)
            part = await self._query("usage", partial(self._transport.get, path), parse_usage)
            cost, requests = cost + part.cost, requests + part.requests
            for item in part.items:
                place = item.day, item.model
                items[place] = _add(items[place], item) if place in items else item
        return Usage(items=tuple(items[place] for place in sorted(items)), cost=cost, requests=requests)

    async def models(self) -> list[str]:
        """Return the ids of the models that the server lists."""
        return await self._query("models", lambda: self._transport.get("/v1/models"), parse_models)

    async def model_schema(self, model: str) -> dict[str, Any]:
        """Return the server's own description of a model."""
        path = _schema_path(model)
        return await self._query(f"model {model}", lambda: self._transport.get(path), parse_schema)

    async def declared_key_support(self, model: str) -> KeySupport | None:
        """Return what the server declares about idempotency keys, asked once; None if it gave no usable answer.

        Raise `TransportError` if it could not be reached.
        """
        try:
            response = await self._transport.get(_schema_path(model))
        except TransportError as error:
            if not error.sent:
                raise
            return None
        schema = parse_schema(response)
        if schema is not None:
            return declared_support(schema)
        refusal = parse_error(response, now=self._clock.wall(), operation=f"model {model}")
        # A server without schemas declares nothing. One that refuses this key, or is busy, has not answered.
        has_answered = type(refusal) in {APIError, InvalidRequest, NotFound} and not _is_cut_short(response)
        return KeySupport() if has_answered else None

    async def _query(
        self,
        operation: str,
        send: Callable[[], Awaitable[Response]],
        parse: Callable[[Response], _T | None],
        *,
        is_lookup: bool = False,
    ) -> _T:
        """Send a request until it has a result, is definitely refused, or time is up; then raise the last error."""
        gives_up_at = self._clock.now() + min(_MAX_RETRY_SECONDS, self._retry.timeout)
        attempt = 0
        while True:
            retry_after = None
            try:
                response = await send()
            except TransportError as error:
                if error.permanent:
                    raise
                last_error: TransportError | APIError = error
            else:
                result = parse(response)
                if result is not None:
                    return result
                refusal = parse_error(response, now=self._clock.wall(), operation=operation, is_lookup=is_lookup)
                if not isinstance(refusal, (ServerError, RateLimited)) and not _is_cut_short(response):
                    raise refusal
                last_error, retry_after = refusal, parse_retry_after(response, self._clock.wall())
            delay = retry_delay(retry_after, attempt, self._retry, random.random())
            if self._clock.now() + delay > gives_up_at:
                raise last_error
            attempt += 1
            await anyio.sleep(delay)
