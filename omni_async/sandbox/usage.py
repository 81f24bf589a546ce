"""The endpoint of the bill: what was billed in a period, for each model and day, as the service documents it."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aiohttp import web

from .limits import FixedWindow
from .replies import error_with_code
from .state import SandboxState, authenticate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .replies import ErrorReply
    from .tasks import Task, TaskRunner

MAX_PERIOD = 31 * 86_400  # seconds
MAX_MODELS = 50
REQUESTS_PER_MINUTE = 60  # for each API key
CACHE_LIFETIME = 60.0  # seconds for which the same question gets the same answer
CACHE_HEADER = "X-Usage-Cache"
DEFAULT_ZONE = "Asia/Shanghai"
GROUPS = ("none", "model", "date", "model,date")


@dataclass(frozen=True, slots=True)
class _Question:
    """The parameters of a request. Times are Unix seconds; the end is exclusive."""

    start: float
    end: float
    models: frozenset[str]
    group_by: str
    zone: tzinfo
    is_account: bool

    def place(self, task: Task) -> tuple[str, str]:
        """Return the day and the model under which a task is shown; "" for what the question does not group by."""
        assert task.ended is not None
        day = datetime.fromtimestamp(task.ended, self.zone).date().isoformat() if "date" in self.group_by else ""
        return day, task.body.model if "model" in self.group_by else ""

    def includes(self, task: Task, api_key: str) -> bool:
        """Return whether a task was billed in the period, to the key or the account, and for one of the models."""
        is_own = self.is_account or task.api_key == api_key
        is_asked = not self.models or task.body.model.lower() in self.models
        return task.status == "completed" and is_own and is_asked and self.start <= (task.ended or 0) < self.end


class UsageEndpoint:
    """Handler of `GET /v1/usage`. A task is billed when it completes; failed ones never are."""

    def __init__(self, state: SandboxState, runner: TaskRunner) -> None:
        self._state, self._runner = state, runner
        self._limits: dict[str, FixedWindow] = {}  # by API key
        self._cached: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}  # by API key and question

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get(path, self.usage) for path in ("/v1/usage", "/usage")]

    async def usage(self, request: web.Request) -> web.StreamResponse:
        """Return the sums of a period."""
        api_key = authenticate(request, self._state.settings.api_key)
        await self._state.add_latency()
        now = self._state.now()
        limit = self._limits.setdefault(api_key, FixedWindow(REQUESTS_PER_MINUTE, 60.0, now))
        if delay := limit.wait(now):
            raise self._state.too_many_requests(delay)
        limit.consume(now)
        if self._state.settings.usage_unavailable:
            raise error_with_code(503, "usage_unavailable", "usage is temporarily unavailable; this does not mean zero")
        place = api_key, request.query_string
        made_at, data = self._cached.get(place, (now - CACHE_LIFETIME, {}))
        is_hit = now - made_at < CACHE_LIFETIME
        if not is_hit:
            data = self._answer(_parse(request), api_key)
            self._cached[place] = now, data
        return web.json_response({"success": True, "data": data}, headers={CACHE_HEADER: "hit" if is_hit else "miss"})

    def _answer(self, question: _Question, api_key: str) -> dict[str, Any]:
        billed = [task for task in self._runner.tasks.values() if question.includes(task, api_key)]
        groups: defaultdict[tuple[str, str], list[Task]] = defaultdict(list)
        if question.group_by != "none":
            for task in billed:
                groups[question.place(task)].append(task)
        names = [name for name in ("date", "model") if name in question.group_by]
        items = []
        for (day, model), tasks in sorted(groups.items()):
            facts = {"date": day, "model": model}
            items.append({name: facts[name] for name in names} | _sums(tasks))
        return {"total": _sums(billed), "items": items}


def _sums(tasks: Iterable[Task]) -> dict[str, Any]:
    prices = [task.price for task in tasks]
    usd = round(sum(prices), 6)
    counts = {"requests": len(prices), "prompt_tokens": 0, "completion_tokens": 0}
    return {"amount_usd": usd, "credits": round(10 * usd, 6), **counts}


def _parse(request: web.Request) -> _Question:
    """Return the question of a request. Raise `ErrorReply` (400) for what the service does not take."""
    query = request.query
    now = time.time()
    end = _parse_time(query.get("end"), now, "invalid_end")
    start = _parse_time(query.get("start"), end - 86_400, "invalid_start")
    if start >= end:
        raise _invalid("invalid_range", "start must be before end")
    if end - start > MAX_PERIOD:
        raise _invalid("range_too_large", "the range must not exceed 31 days")
    models = frozenset(name.strip().lower() for name in query.get("model", "").split(",") if name.strip())
    if len(models) > MAX_MODELS:
        raise _invalid("too_many_models", f"at most {MAX_MODELS} models")
    group_by, scope = query.get("group_by", "none"), query.get("scope", "key")
    if group_by not in GROUPS:
        raise _invalid("invalid_group_by", f"group_by must be one of {', '.join(GROUPS)}")
    if scope not in {"key", "account"}:
        raise _invalid("invalid_scope", "scope must be key or account")
    return _Question(start, end, models, group_by, _parse_zone(query.get("tz", DEFAULT_ZONE)), scope == "account")


def _parse_time(text: str | None, default: float, code: str) -> float:
    if text is None:
        return default
    try:
        return float(int(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(code, f"{text!r} is neither Unix seconds nor RFC 3339") from None
    if found.tzinfo is None:
        raise _invalid(code, f"{text!r} has no offset from UTC")
    return found.timestamp()


def _parse_zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name == DEFAULT_ZONE:  # a system without a database of time zones; this zone has had no change since 1991
            return timezone(timedelta(hours=8))
        raise _invalid("invalid_tz", f"{name!r} is not the name of a time zone") from None


def _invalid(code: str, message: str) -> ErrorReply:
    return error_with_code(400, code, message)
