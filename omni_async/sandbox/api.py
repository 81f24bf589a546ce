"""The endpoints for tasks: submits and checks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import fault_effects
from .idempotency import KEY_HEADER, REPLAYED_HEADER, Claim, IdempotencyKeys
from .limits import FixedWindow, RequestLimiter, TokenBucket
from .malformed import LASTING, malformed
from .replies import ErrorReply, error_reply
from .schemas import OBJECT_VERSION, VERSION_HEADER
from .state import SandboxState, authenticate
from .submit_body import SubmitBody, parse_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from .limits import Limit
    from .task_json import TaskSerializer
    from .tasks import Task, TaskRunner


# Seconds after acceptance in which `not_found_check` can hit a task. The table of faults promises the first second.
NOT_FOUND_WINDOW = 1.0


class TaskEndpoints:
    """Handlers of `POST /v1/videos/generations` and `GET /v1/tasks/{task_id}`.

    `redirect_target` returns the origin to which the fault `redirect_submit` leads; it is called for each submit.
    """

    def __init__(
        self, state: SandboxState, runner: TaskRunner, serializer: TaskSerializer, redirect_target: Callable[[], str]
    ) -> None:
        self._state, self._runner, self._serializer = state, runner, serializer
        self._redirect_target = redirect_target
        self._keys = IdempotencyKeys(state.settings.idempotency)
        self._submit_limiters: dict[str, RequestLimiter] = {}  # by API key
        self._check_limiters: dict[str, RequestLimiter] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/v1/videos/generations", self.submit),
            web.get("/v1/tasks/{task_id}", self.check),
        ]

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Accept or refuse a submit."""
        self._state.record.record_submit(time.time())
        try:
            return await self._submit(request)
        except ErrorReply as error:
            self._state.record.refused[error.status] += 1
            raise

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        scope = (authenticate(request, self._state.settings.api_key), request.headers.get(KEY_HEADER))
        fault = self._state.fault_injector.next_fault("submit")
        try:
            await fault_effects.before_acceptance(self._state, fault, request, self._redirect_target())
            body, claim = self._claim(await request.read(), scope)
        finally:
            # The idempotency key is claimed during the latency: a second request with it meanwhile gets a 409.
            await self._state.add_latency()
        if claim.reply is not None:
            self._state.record.replayed += 1
            lasting = fault if fault in LASTING else None
            return await malformed(lasting, request, _json(claim.reply, {REPLAYED_HEADER: "true"}))
        try:
            task = self._accept(body, scope, fault)
        except ErrorReply:
            self._keys.release(scope)
            raise
        # Kept before any fault strikes: a resend with the same key is answered with this task.
        claim.reply = self._reply(task, request)
        return await fault_effects.after_acceptance(self._state, fault, request, _json(claim.reply, {}))

    def _claim(self, raw: bytes, scope: tuple[str, str | None]) -> tuple[SubmitBody, Claim]:
        self._check_limit(self._submit_limiters, scope[0], self._submit_limits)
        body = parse_body(raw, self._state.models)
        claim = self._keys.claim(scope, body.digest, self._state.now())
        return body, claim

    def _accept(self, body: SubmitBody, scope: tuple[str, str | None], fault: str | None) -> Task:
        delay = self._runner.seconds_until_slot(scope[0])
        if delay:
            raise self._state.too_many_requests(delay)
        self._runner.parent_of(body)  # raises if it cannot be extended
        return self._runner.accept(body, *scope, self._state.fault_injector.faults_of_new_task(fault))

    def _reply(self, task: Task, request: web.Request) -> dict[str, Any]:
        is_requested = request.headers.get(VERSION_HEADER) == OBJECT_VERSION
        if is_requested or self._state.settings.submit_shape == "object":
            data = {"id": task.task_id, "object": "generation.task", "status": "queued", "created": int(task.created)}
            return {"code": 202 if is_requested else 200, "request_id": f"req_{task.task_id[5:]}", "data": data}
        return {"code": 200, "data": [{"status": "submitted", "task_id": task.task_id}]}

    async def check(self, request: web.Request) -> web.StreamResponse:
        """Return the status of a task."""
        self._state.record.record_check(request.match_info["task_id"])
        try:
            return await self._check(request)
        except ErrorReply as error:
            self._state.record.checks_refused[error.status] += 1
            raise

    async def _check(self, request: web.Request) -> web.StreamResponse:
        api_key = authenticate(request, self._state.settings.api_key)
        await self._state.add_latency()
        self._check_limit(self._check_limiters, api_key, self._check_limits)
        task = self._runner.find(request.match_info["task_id"])
        fault = self._state.fault_injector.next_fault("check", impossible=self._impossible_faults(task))
        await fault_effects.before_check(self._state, fault, request)
        if task is None:
            raise _unknown_task(request.match_info["task_id"])
        data = self._serializer.to_json(
            task, self._state.now(), fault=fault, host=request.url.host, language=request.query.get("language")
        )
        return await malformed(fault, request, web.json_response({"code": 200, "data": data}))

    def _impossible_faults(self, task: Task | None) -> tuple[str, ...]:
        """Return the faults of a check that would have no effect on this task now, or that it is too old for."""
        if task is None:
            return ("not_found_check", "unknown_status", "upper_status", "no_link")
        is_new = self._state.now() - task.started < NOT_FOUND_WINDOW
        return (
            *(() if is_new else ("not_found_check",)),
            *(("no_link",) if task.status == "running" else ("unknown_status",)),
        )

    def _check_limit(
        self, limiters: dict[str, RequestLimiter], api_key: str, limits: Callable[[], tuple[Limit, ...]]
    ) -> None:
        """Count a request of this key. Raise `ErrorReply` (429) if that exceeds a limit."""
        limiter = limiters.get(api_key)
        if limiter is None:
            limiter = limiters[api_key] = RequestLimiter(limits())
        delay = limiter.admit(self._state.now())
        if delay:
            raise self._state.too_many_requests(delay)

    def _submit_limits(self) -> tuple[Limit, ...]:
        settings, now = self._state.settings, asyncio.get_running_loop().time()
        limits: list[Limit] = []
        if settings.per_minute is not None:
            limits.append(TokenBucket(settings.per_minute / 60, settings.burst, now))
        if settings.window is not None:
            limits.append(FixedWindow(*settings.window, now))
        return tuple(limits)

    def _check_limits(self) -> tuple[Limit, ...]:
        rate = self._state.settings.checks_per_second
        if rate is None:
            return ()
        return (TokenBucket(rate, max(1, round(rate)), asyncio.get_running_loop().time()),)


def _json(reply: dict[str, Any], headers: dict[str, str]) -> web.Response:
    """Return the response to a submit; the newer form names its version in a header."""
    version = {VERSION_HEADER: OBJECT_VERSION} if isinstance(reply["data"], dict) else {}
    return web.json_response(reply, status=reply["code"], headers=headers | version)


def _unknown_task(task_id: str) -> ErrorReply:
    # The status page documents the 400 for a malformed id; a 404 for a well-formed one is what clients report.
    is_well_formed = task_id.startswith(("task_", "task-"))
    return error_reply(404, "task not found") if is_well_formed else error_reply(400, "invalid task id")
