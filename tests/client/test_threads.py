"""Threads, event loops and several clients, in real time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from omni_async import ClientClosed, InvalidReference, InvalidRequest, Job, KeyReused, LedgerLocked, OmniClient, Polling
from tests.support.fakes import FakeClient, Server, refusal

FAST = Polling(min_interval=0.02, max_interval=0.1)


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.fixture
def server() -> Server:
    """Return a server that is quick in real time."""
    return Server(duration=0.05, latency=0.001)


async def test_threads_submit_and_get_their_clips(tmp_path: Path, server: Server) -> None:
    """Many threads submit at once; each gets its clip, and each clip is paid once."""

    def work(number: int) -> tuple[str, Path]:
        future = client.submit_threadsafe(f"p{number}", key=f"k{number}" if number % 2 else None)
        return future.key, future.result(timeout=30)

    async with FakeClient(server, tmp_path, polling=FAST) as client:
        results = await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(12)))
    assert all(path == tmp_path / f"{key}.mp4" and path.is_file() for key, path in results)
    assert len({path for _, path in results}) == len(server.tasks) == 12
    server.assert_paid_once()


async def test_the_future_ends_as_the_job_does(tmp_path: Path, server: Server) -> None:
    """It raises what awaiting the job raises: a refusal, a key that was used, the end of the client."""
    server.on_submit = lambda post: refusal(400) if post.body["prompt"] == "bad" else None
    client = await FakeClient(server, tmp_path, polling=FAST).open()
    await client.submit("p", key="k")
    in_thread = Submitting(client)
    assert isinstance(await in_thread.error("bad"), InvalidRequest)
    assert isinstance(await in_thread.error("other", key="k"), KeyReused)
    assert await in_thread.path("p", key="k") == tmp_path / "k.mp4"
    server.duration = 600
    future = await asyncio.to_thread(lambda: client.submit_threadsafe("long", key="long"))
    await asyncio.sleep(0.05)
    assert client.find("long") is not None
    assert not future.cancel()  # the client has it: cancelling a waiter never cancels a job
    await client.aclose()
    assert isinstance(future.exception(timeout=5), ClientClosed)
    assert isinstance(await in_thread.error("after"), ClientClosed)


async def test_a_future_that_is_cancelled_in_time_submits_nothing(tmp_path: Path, server: Server) -> None:
    """The event loop has not received it yet."""
    futures: list[concurrent.futures.Future[Path]] = []
    async with FakeClient(server, tmp_path, polling=FAST) as client:
        thread = threading.Thread(target=lambda: futures.append(client.submit_threadsafe("p", key="k")))
        thread.start()
        thread.join()  # the loop does not turn meanwhile
        assert futures[0].cancel()
        await asyncio.sleep(0.05)
        assert client.find("k") is None
    assert server.posts == []


async def test_what_is_wrong_raises_in_the_thread(tmp_path: Path, server: Server) -> None:
    """A bad request raises where it is submitted, before the event loop hears of it; so does a client not open."""
    client = FakeClient(server, tmp_path, polling=FAST)
    in_thread = Submitting(client)
    with pytest.raises(ClientClosed, match="not open"):
        await in_thread.submit("p")
    async with client:
        with pytest.raises(ValidationError):
            await in_thread.submit("p", aspect_ratio="7:5")
        with pytest.raises(InvalidReference):
            await in_thread.submit("p", images=[tmp_path / "missing.png"])
        with pytest.raises(RuntimeError, match=r"use client\.submit"):
            client.submit_threadsafe("p")
    assert server.posts == []


async def test_an_event_loop_of_another_thread_can_await_a_clip(tmp_path: Path, server: Server) -> None:
    """`asyncio.wrap_future` makes the future awaitable in the event loop of a thread."""

    async def elsewhere() -> Path:
        with pytest.raises(RuntimeError, match=r"another event loop.*asyncio\.wrap_future"):
            client.submit("p")
        return await asyncio.wrap_future(client.submit_threadsafe("p", key="k"))

    async with FakeClient(server, tmp_path, polling=FAST) as client:
        assert await asyncio.to_thread(asyncio.run, elsewhere()) == tmp_path / "k.mp4"


CALLS: dict[str, Callable[[FakeClient, Job], object]] = {
    "submit": lambda client, job: client.submit("p"),
    "attach": lambda client, job: client.attach("task_1"),
    "resume": lambda client, job: client.resume(),
    "resubmit": lambda client, job: client.resubmit("k"),
    "as_completed": lambda client, job: client.as_completed(["p"]),
    "find": lambda client, job: client.find("k"),
    "cancel": lambda client, job: job.cancel(),
    "extend": lambda client, job: job.extend("more"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_other_calls_from_a_thread_say_what_to_do(tmp_path: Path, server: Server, name: str) -> None:
    """The error names the methods that are for threads, and nothing is changed."""
    server.duration = 600
    client = await FakeClient(server, tmp_path, polling=FAST).open()
    job = client.submit("p", key="k")
    await job.recorded()
    with pytest.raises(RuntimeError, match=r"submit_threadsafe.*call_soon_threadsafe"):
        await asyncio.to_thread(CALLS[name], client, job)
    assert client.find("k") is job
    await client.aclose()
    with pytest.raises(ClientClosed) if name != "cancel" else pytest.raises(AssertionError):
        assert await asyncio.to_thread(CALLS[name], client, job)


async def test_a_client_that_the_loop_has_ended_can_be_closed_elsewhere(tmp_path: Path) -> None:
    """A program that forgets to close its client, and closes it in another event loop, gets no error."""
    kept: list[FakeClient] = []

    async def forget() -> None:
        kept.append(await FakeClient(Server(duration=600, latency=0.001), tmp_path).open())
        # Not a moment earlier: of an asyncio task that the loop cancels before its first step, anyio leaves a coroutine
        # that was never awaited, and Python warns of that.
        await kept[0].submit("p").accepted()
        await asyncio.sleep(0.01)

    await asyncio.to_thread(asyncio.run, forget())
    await kept[0].aclose()


# Two clients on one folder


async def test_a_second_client_of_a_process_is_told_how_to_close_the_first(tmp_path: Path) -> None:
    """Running a cell again says how to close the client that it opened before; then it works."""
    settings: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "output_dir": tmp_path}
    client = await OmniClient("sk-of-a-test", **settings).open()
    with pytest.raises(LedgerLocked, match=r"another OmniClient has it open.*await client\.aclose\(\)"):
        await OmniClient("sk-of-a-test", **settings).open()
    await client.aclose()
    client = await OmniClient("sk-of-a-test", **settings).open()
    await client.aclose()


class Submitting:
    """Submits in a thread."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client

    async def submit(self, prompt: str, **fields: object) -> concurrent.futures.Future[Path]:
        """Return the future."""
        return await asyncio.to_thread(lambda: self._client.submit_threadsafe(prompt, **fields))  # type: ignore[arg-type]

    async def path(self, prompt: str, **fields: object) -> Path:
        """Return the clip."""
        return await asyncio.wrap_future(await self.submit(prompt, **fields))

    async def error(self, prompt: str, **fields: object) -> object:
        """Return what submitting or waiting raises."""
        try:
            return await self.path(prompt, **fields)
        except Exception as error:
            return error
