"""Clients and threads: the event loop to which a client belongs, and submitting from another thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ClientClosed
from ..jobs.job import state_of
from ..jobs.keys import checked_key, checked_name
from .job_factory import check_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.job import JobState
    from ..models.request import VideoRequest
    from .job_factory import JobFactory


class ClipFuture(Future[Path]):
    """The future of the path of a clip that another thread submitted. `key` is the key of its job."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise `RuntimeError` unless the client's event loop is the one that is running here."""
    running = running_loop()
    if running is loop:
        return
    if running is None:
        raise RuntimeError(
            "this OmniClient belongs to an event loop, and none is running here. In another thread, submit with "
            "client.submit_threadsafe(...), and call everything else with loop.call_soon_threadsafe(...) or "
            "asyncio.run_coroutine_threadsafe(...)"
        )
    raise RuntimeError(
        "this OmniClient belongs to another event loop; open one with `async with OmniClient()` in each loop (each "
        "asyncio.run makes a new one). If that loop is running in another thread, submit with "
        "asyncio.wrap_future(client.submit_threadsafe(...))"
    )


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that is running in this thread, None if none is."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def submit_from_thread(
    loop: asyncio.AbstractEventLoop,
    jobs: Callable[[], JobFactory],
    request: VideoRequest,
    key: str | None,
    name: str | None = None,
) -> ClipFuture:
    """Submit a request in the client's event loop, and return the future of its clip.

    The request is checked here, so that what is wrong with it raises here. `jobs` is called in the event loop, and
    raises `ClientClosed` if the client was closed meanwhile.
    """
    if running_loop() is loop:
        raise RuntimeError("submit_threadsafe is for other threads; in the event loop of the client, use client.submit")
    check_files(request, key)
    future = ClipFuture(checked_key(request, key))
    checked_name(name)

    def submit() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            job = jobs().submit(request, future.key, name)
        except Exception as refusal:  # noqa: BLE001 - it is raised where the future is waited for
            future.set_exception(refusal)
        else:
            state_of(job).add_done_callback(copy_outcome)

    def copy_outcome(state: JobState) -> None:
        if isinstance(state.outcome, Path):
            future.set_result(state.outcome)
        else:
            future.set_exception(state.outcome)

    try:
        loop.call_soon_threadsafe(submit)
    except RuntimeError as reason:  # the event loop is closed
        raise ClientClosed("the event loop of this client is closed; make another OmniClient") from reason
    return future
