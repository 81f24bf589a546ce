"""The API: submits and checks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import fault_effects as harm
from .idempotency import HEADER, REPLAYED, Claim, IdempotencyKeys
from .limits import FixedWindow, RequestLimiter, TokenBucket
from .replies import ErrorReply, error_reply
from .state import SandboxState, authenticate
from .submit_body import SubmitBody, parse_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from .limits import Limit
    from .task_json import TaskSerializer
    from .tasks import Task, TaskRunner


VERSION_HEADER = "X-APIMart-Response-Version"
OBJECT_VERSION = "2026-07-27"
YOUNG = 1.0  # seconds after acceptance in which a task may not be found yet


class TaskEndpoints:
    """Handlers of `POST /v1/videos/generations` and of `/v1/tasks/...`."""

    def __init__(
        self, stage: SandboxState, runner: TaskRunner, views: TaskSerializer, elsewhere: Callable[[], str]
    ) -> None:
        self._stage, self._runner, self._views, self._elsewhere = stage, runner, views, elsewhere
        self._keys = IdempotencyKeys(stage.settings.idempotency)
        self._submit_gates: dict[str, RequestLimiter] = {}
        self._check_gates: dict[str, RequestLimiter] = {}

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers live."""
        return [
            web.post("/v1/videos/generations", self.submit),
            web.get("/v1/tasks/{task_id}", self.check),
        ]

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Take an order, or refuse it."""
        self._stage.record.record_submit(time.time())
        try:
            return await self._submit(request)
        except ErrorReply as no:
            self._stage.record.refused[no.status] += 1
            raise

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        scope = (authenticate(request, self._stage.settings.api_key), request.headers.get(HEADER))
        fault = self._stage.fault_injector.next_fault("submit")
        try:
            await harm.before_accepting(self._stage, fault, self._elsewhere())
            order, claim = self._admit(await request.read(), scope)
        finally:
            # An idempotency key is held meanwhile: a second request with it is told so.
            await self._stage.add_latency()
        if claim.reply is not None:
            self._stage.record.replayed += 1
            return web.json_response(claim.reply, status=claim.reply["code"], headers={REPLAYED: "true"})
        try:
            task = self._accept(order, scope, fault)
        except ErrorReply:
            self._keys.release(scope)
            raise
        claim.reply = self._reply(task, request)
        reply = web.json_response(claim.reply, status=claim.reply["code"])
        return await harm.after_accepting(self._stage, fault, request, reply)

    def _admit(self, raw: bytes, scope: tuple[str, str | None]) -> tuple[SubmitBody, Claim]:
        self._pass(self._submit_gates, scope[0], self._submit_limits)
        order = parse_body(raw)
        claim = self._keys.claim(scope, order.digest, self._stage.now())
        return order, claim

    def _accept(self, order: SubmitBody, scope: tuple[str, str | None], fault: str | None) -> Task:
        wait = self._runner.seconds_until_slot(scope[0])
        if wait:
            raise self._stage.too_many_requests(wait)
        self._runner.parent_of(order)
        return self._runner.accept(order, *scope, self._stage.fault_injector.faults_of_new_task(fault))

    def _reply(self, task: Task, request: web.Request) -> dict[str, Any]:
        wanted = request.headers.get(VERSION_HEADER) == OBJECT_VERSION
        if wanted or self._stage.settings.submit_shape == "object":
            data = {"id": task.task_id, "object": "generation.task", "status": "queued", "created": int(task.created)}
            return {"code": 202 if wanted else 200, "request_id": f"req_{task.task_id[5:]}", "data": data}
        return {"code": 200, "data": [{"status": "submitted", "task_id": task.task_id}]}

    async def check(self, request: web.Request) -> web.StreamResponse:
        """How a task is."""
        self._stage.record.record_check(request.match_info["task_id"])
        try:
            return await self._check(request)
        except ErrorReply as no:
            self._stage.record.checks_refused[no.status] += 1
            raise

    async def _check(self, request: web.Request) -> web.StreamResponse:
        api_key = authenticate(request, self._stage.settings.api_key)
        await self._stage.add_latency()
        self._pass(self._check_gates, api_key, self._check_limits)
        task = self._runner.find(request.match_info["task_id"])
        fault = self._stage.fault_injector.next_fault("check", cannot=self._cannot(task))
        await harm.to_check(self._stage, fault, request)
        if task is None:
            raise self._unknown(request.match_info["task_id"])
        view = self._views.to_json(task, self._stage.now(), fault, request.url.host)
        return harm.spoiled(fault, web.json_response({"code": 200, "data": view}))

    def _cannot(self, task: Task | None) -> tuple[str, ...]:
        if task is None:
            return ("not_found_check", "unknown_status", "upper_status", "no_link")
        young = self._stage.now() - task.started < YOUNG
        return (
            *(() if young else ("not_found_check",)),
            *(("no_link",) if task.status == "running" else ("unknown_status",)),
        )

    @staticmethod
    def _unknown(task_id: str) -> ErrorReply:
        known_form = task_id.startswith(("task_", "task-"))
        return error_reply(404, "task not found") if known_form else error_reply(400, "invalid task id")

    def _pass(self, gates: dict[str, RequestLimiter], api_key: str, limits: Callable[[], tuple[Limit, ...]]) -> None:
        gate = gates.get(api_key)
        if gate is None:
            gate = gates[api_key] = RequestLimiter(limits())
        wait = gate.admit(self._stage.now())
        if wait:
            raise self._stage.too_many_requests(wait)

    def _submit_limits(self) -> tuple[Limit, ...]:
        settings, now = self._stage.settings, asyncio.get_running_loop().time()
        limits: list[Limit] = []
        if settings.per_minute is not None:
            limits.append(TokenBucket(settings.per_minute / 60, settings.burst, now))
        if settings.window is not None:
            limits.append(FixedWindow(*settings.window, now))
        return tuple(limits)

    def _check_limits(self) -> tuple[Limit, ...]:
        rate = self._stage.settings.checks_per_second
        if rate is None:
            return ()
        return (TokenBucket(rate, max(1, round(rate)), asyncio.get_running_loop().time()),)
