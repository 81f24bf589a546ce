"""Makes one seam of a client raise for one of its jobs: each port, and what the stages call on behalf of a job."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from pydantic import TypeAdapter, ValidationError

import omni_async.downloads.links
import omni_async.polling.poller
import omni_async.submission.sender
from omni_async import TransportError
from omni_async.ledger import MemoryJobStore
from omni_async.polling.planner import CheckPlanner
from omni_async.polling.webhook import WebhookReceiver
from omni_async.polling.webhook_hints import WebhookHints
from omni_async.testing.memory_client import MemoryClock
from tests.support.clip_stores import MemoryClipStore
from tests.support.fakes import Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    import pytest

BAD = "bad"  # the key and the prompt of the job for which a seam raises
BAD_MODEL = "Omni-Flash-Ext"  # and its model, which no other job has: the planner knows jobs by their model


def _validation_error() -> Exception:
    try:
        TypeAdapter(int).validate_python("x")
    except ValidationError as error:
        return error
    raise AssertionError


ERRORS: dict[str, BaseException] = {
    "UnicodeEncodeError": UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range(128)"),
    "ValueError": ValueError("odd"),
    "OverflowError": OverflowError("too large"),
    "RecursionError": RecursionError("too deep"),
    "TypeError": TypeError("odd"),
    "KeyError": KeyError("odd"),
    "IndexError": IndexError("odd"),
    "AttributeError": AttributeError("odd"),
    "OSError": OSError(5, "Input/output error"),
    "TimeoutError": TimeoutError(),
    "RuntimeError": RuntimeError("odd"),
    "AssertionError": AssertionError(),
    "sqlite3.InterfaceError": sqlite3.InterfaceError("odd"),
    "sqlite3.OperationalError": sqlite3.OperationalError("odd"),
    "pydantic.ValidationError": _validation_error(),
    "aiohttp.ClientError": aiohttp.ClientConnectionError("odd"),
    "TransportError": TransportError("odd"),
    "CancelledError": asyncio.CancelledError(),
    "ExceptionGroup": ExceptionGroup("odd", [ValueError("odd")]),
}


@dataclass
class Sabotage:
    """One run: the server, the stores and the listener, with an error that is raised at one place for the job BAD."""

    error: BaseException
    monkeypatch: pytest.MonkeyPatch
    server: Server = field(default_factory=lambda: Server(duration=20.0))
    store: Any = field(default_factory=MemoryJobStore)
    clips: Any = field(default_factory=MemoryClipStore)
    on_event: Callable[[Any], object] | None = None
    is_active: bool = True
    raised: int = 0

    @property
    def target(self) -> str:
        """The key for which it raises; once it is no longer active, no job has it."""
        return BAD if self.is_active else "(none)"

    @property
    def target_model(self) -> str:
        """The model for which it raises."""
        return BAD_MODEL if self.is_active else "(none)"

    def throw(self) -> Any:
        """Raise the error."""
        self.raised += 1
        raise self.error.with_traceback(None)

    async def athrow(self) -> Any:
        """Raise the error when it is awaited."""
        self.throw()

    @property
    def bad_task(self) -> str:
        """The id of the task of the bad job; one that no task has until it is accepted."""
        tasks = self.server.tasks.items()
        return next((task for task, paid in tasks if paid.body.get("prompt") == self.target), "(none)")


SEAMS: dict[str, Callable[[Sabotage], None]] = {}


def _seam(name: str) -> Callable[[Callable[[Sabotage], None]], Callable[[Sabotage], None]]:
    def add(plant: Callable[[Sabotage], None]) -> Callable[[Sabotage], None]:
        SEAMS[name] = plant
        return plant

    return add


# The transport


def _plant_in_submit(run: Sabotage, *, before: bool, accepted: bool = False) -> None:
    original = run.server.submit

    async def submit(body: bytes, key: str, *, on_sent: Any = None, may_send: Any = None) -> Any:
        if json.loads(body)["prompt"] != run.target:
            return await original(body, key, on_sent=on_sent, may_send=may_send)
        if accepted:
            await original(body, key, on_sent=on_sent, may_send=may_send)
        elif not before:
            on_sent()
        return run.throw()

    run.server.submit = submit  # type: ignore[method-assign]


@_seam("submit before a byte is sent")
def _(run: Sabotage) -> None:
    _plant_in_submit(run, before=True)


@_seam("submit after bytes were sent")
def _(run: Sabotage) -> None:
    _plant_in_submit(run, before=False)


@_seam("submit after the server accepted it")
def _(run: Sabotage) -> None:
    _plant_in_submit(run, before=False, accepted=True)


@_seam("check")
def _(run: Sabotage) -> None:
    original = run.server.check

    async def check(task_id: str) -> Any:
        return run.throw() if task_id == run.bad_task else await original(task_id)

    run.server.check = check  # type: ignore[method-assign]


@_seam("upload")
def _(run: Sabotage) -> None:
    original = run.server.upload

    async def upload(path: Path) -> Any:
        return run.throw() if path.stem == run.target else await original(path)

    run.server.upload = upload  # type: ignore[method-assign]


def _plant_in_stream(run: Sabotage, part: str) -> None:
    original = run.server.stream

    class Body:
        def __init__(self, response: Any) -> None:
            self._response = response
            self.status, self.headers = response.status, response.headers

        async def chunks(self) -> AsyncGenerator[bytes, None]:
            async for chunk in self._response.chunks():
                yield chunk[:10]
                run.throw()

    @asynccontextmanager
    async def stream(url: str, headers: Any) -> AsyncIterator[Any]:
        is_bad = run.bad_task in url
        if is_bad and part == "enter":
            run.throw()
        async with original(url, headers) as response:
            yield Body(response) if is_bad and part == "chunks" else response
        if is_bad and part == "exit":
            run.throw()

    run.server.stream = stream  # type: ignore[method-assign]


for _part in ("enter", "chunks", "exit"):
    SEAMS[f"stream {_part}"] = lambda run, part=_part: _plant_in_stream(run, part)  # type: ignore[misc]


# The stores


def _plant_in_store(run: Sabotage, method: str, *, at_call: bool) -> None:
    class Store(MemoryJobStore):
        pass

    def call(self: Any, subject: Any, *arguments: Any) -> Any:
        key = getattr(subject, "key", subject)
        is_bad = key == run.target or (method.endswith("upload") and len(arguments) > 0)
        if is_bad:
            return run.throw() if at_call else run.athrow()
        return getattr(MemoryJobStore, method)(self, subject, *arguments)

    setattr(Store, method, call)
    run.store = Store()


for _method in ("insert", "save", "record_accepted", "claim_filename"):
    for _at_call in (False, True):
        SEAMS[f"store {_method}{' at the call' if _at_call else ''}"] = (
            lambda run, method=_method, at_call=_at_call: _plant_in_store(run, method, at_call=at_call)  # type: ignore[misc]
        )


def _plant_in_upload_store(run: Sabotage, method: str) -> None:
    class Store(MemoryJobStore):
        pass

    def call(self: Any, *arguments: Any) -> Any:  # only the bad job has an image
        return run.athrow() if run.is_active else getattr(MemoryJobStore, method)(self, *arguments)

    setattr(Store, method, call)
    run.store = Store()


for _method in ("find_upload", "save_upload"):
    SEAMS[f"store {_method}"] = lambda run, method=_method: _plant_in_upload_store(run, method)  # type: ignore[misc]


def _plant_in_clip(run: Sabotage, method: str) -> None:
    class Clips(MemoryClipStore):
        def partial(self, name: str, **facts: Any) -> Any:
            if method == "partial" and name.startswith(run.target):
                run.throw()
            clip = super().partial(name, **facts)
            if name.startswith(run.target) and method != "partial":
                setattr(clip, method, run.throw if method == "close" else lambda *_: run.athrow())
            return clip

    run.clips = Clips()
    if method == "append":  # what has arrived is appended only where a transfer breaks off
        run.server.on_download = lambda url: "cut" if run.bad_task in url and not run.raised else None


for _method in ("partial", "append", "commit", "close"):
    SEAMS[f"clip {_method}"] = lambda run, method=_method: _plant_in_clip(run, method)  # type: ignore[misc]


# What the stages call on behalf of a job


def _plant_in_parser(run: Sabotage, module: Any, name: str) -> None:
    original = getattr(module, name)

    def parse(response: Any, *arguments: Any, **facts: Any) -> Any:
        body = getattr(response, "body", b"")
        return (
            run.throw() if run.bad_task and run.bad_task.encode() in body else original(response, *arguments, **facts)
        )

    run.monkeypatch.setattr(module, name, parse)


SEAMS["parsing of a submit"] = lambda run: _plant_in_parser(run, omni_async.submission.sender, "classify_submit")
SEAMS["parsing of a check"] = lambda run: _plant_in_parser(run, omni_async.polling.poller, "classify_check")


def _plant_in_planner(run: Sabotage, method: str) -> None:
    begin, original = CheckPlanner.begin, getattr(CheckPlanner, method)
    histories: list[Any] = []

    def begin_and_note(self: Any, model: str, *arguments: Any, **facts: Any) -> Any:
        history = begin(self, model, *arguments, **facts)
        if model == run.target_model:
            histories.append(history)
        return history

    def call(self: Any, subject: Any, *arguments: Any, **facts: Any) -> Any:
        is_bad = subject == run.target_model if method == "begin" else any(subject is each for each in histories)
        return run.throw() if is_bad else original(self, subject, *arguments, **facts)

    if method != "begin":
        run.monkeypatch.setattr(CheckPlanner, "begin", begin_and_note)
    run.monkeypatch.setattr(CheckPlanner, method, call)


for _method in (
    "begin",
    "observe_running",
    "observe_finished",
    "next_check",
    "reevaluate_in",
    "expected_delay",
):
    SEAMS[f"planner {_method}"] = lambda run, method=_method: _plant_in_planner(run, method)  # type: ignore[misc]


def _plant_in_hints(run: Sabotage, method: str) -> None:
    original = getattr(WebhookHints, method)

    def call(self: Any, tracked: Any) -> Any:
        return run.throw() if tracked.job.key == run.target else original(self, tracked)

    run.monkeypatch.setattr(WebhookHints, method, call)


for _method in ("track", "observe_unfinished", "cost_factor"):
    SEAMS[f"webhook hints {_method}"] = lambda run, method=_method: _plant_in_hints(run, method)  # type: ignore[misc]


@_seam("webhook URL")
def _(run: Sabotage) -> None:
    original = WebhookReceiver.url_for

    def url_for(self: Any, job: Any) -> Any:
        return run.throw() if job.key == run.target else original(self, job)

    run.monkeypatch.setattr(WebhookReceiver, "url_for", url_for)


def _plant_in_clock(run: Sabotage, request: str, *, is_wall: bool) -> None:
    """Let the clock raise once, as soon as a request of the bad job was answered."""
    original, answer = getattr(MemoryClock, "wall" if is_wall else "now"), getattr(run.server, request)
    armed = []

    async def answered(subject: Any, *arguments: Any, **facts: Any) -> Any:
        reply = await answer(subject, *arguments, **facts)
        is_bad = subject == run.bad_task if request == "check" else json.loads(subject)["prompt"] == run.target
        if is_bad and not run.raised:
            armed.append(True)
        return reply

    def read(self: Any) -> Any:
        if armed and run.is_active:
            armed.clear()
            run.throw()
        return original(self)

    setattr(run.server, request, answered)
    run.monkeypatch.setattr(MemoryClock, "wall" if is_wall else "now", read)


SEAMS["clock after a submit"] = lambda run: _plant_in_clock(run, "submit", is_wall=True)
SEAMS["clock after a check"] = lambda run: _plant_in_clock(run, "check", is_wall=True)


@_seam("listener")
def _(run: Sabotage) -> None:
    run.on_event = lambda event: run.throw() if event.key == run.target else None
