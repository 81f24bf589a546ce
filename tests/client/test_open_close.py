"""`open` and `aclose`, beside `async with`: for a client that lives as long as a web service or a notebook."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from omni_async import ClientClosed, KeyReused, LedgerError, OmniClient
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Server, SlowLedger, left_over
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed

SECONDS = 8.0  # what "within seconds" means


async def test_a_closed_client_loses_nothing(tmp_path: Path) -> None:
    """Closing takes seconds, whatever the jobs wait for; a later client completes all of them, each paid once."""
    server, ledger = Server(duration=600, latency=1.5), MemoryJobStore()
    client = await FakeClient(server, tmp_path, ledger=ledger).open()
    jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(20)]
    jobs.append(jobs[0].extend("and then", key="child"))
    waiters = [asyncio.ensure_future(job.wait()) for job in jobs]
    await asyncio.sleep(2.0)
    began = server.now()
    await client.aclose()
    assert server.now() - began < SECONDS
    assert not left_over()
    assert all(isinstance(each, ClientClosed) for each in await asyncio.gather(*waiters, return_exceptions=True))
    assert len(await unfinished(ledger)) == 21
    later = await FakeClient(server, tmp_path, ledger=ledger).open()
    await asyncio.gather(*await resumed(later))
    await later.aclose()
    assert len(server.tasks) == 21
    assert len(list(tmp_path.glob("*.mp4"))) == 21
    server.assert_paid_once()


@pytest.mark.parametrize("how", ["twice", "at once", "after with", "within with", "never opened"])
async def test_closing_again_does_no_harm(tmp_path: Path, how: str) -> None:
    """A client may be closed any number of times, in any order; nothing remains."""
    client = FakeClient(Server(duration=50), tmp_path)
    if how == "never opened":
        await client.aclose()
    elif how.endswith("with"):
        async with client:
            job = client.submit("p")
            if how == "within with":
                await client.aclose()
                assert isinstance(await caught(job.wait()), ClientClosed)
    else:
        await client.open()
        client.submit("p")
        await asyncio.gather(*(client.aclose() for _ in range(1 if how == "twice" else 3)))
    await client.aclose()
    assert not left_over()
    with pytest.raises(ClientClosed, match="another OmniClient"):
        await client.open()


async def test_an_open_client_says_how_to_open_another(tmp_path: Path) -> None:
    """Opening a client twice, as running a cell of a notebook again does, says what to do."""
    client = FakeClient(Server(), tmp_path)
    with pytest.raises(ClientClosed, match=r"await client\.open\(\)"):
        client.submit("p")
    await client.open()
    with pytest.raises(ClientClosed, match=r"open already.*await client\.aclose\(\)"):
        await client.open()
    assert await client.submit("p")
    await client.aclose()
    with pytest.raises(ClientClosed, match="closed; make another"):
        client.submit("p")


async def test_closing_while_opening_leaves_nothing_open(tmp_path: Path) -> None:
    """Whichever of the two is first, nothing remains, and no client seems to be open."""
    for turns in range(12):
        client = FakeClient(Server(), tmp_path)
        opening = asyncio.create_task(client.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        assert isinstance(await caught(opening), ClientClosed | FakeClient)
        with pytest.raises(ClientClosed):
            client.submit("p")
        assert not left_over()


async def test_a_cancelled_aclose_is_quick(tmp_path: Path) -> None:
    """A cancellation during `aclose` ends it within seconds, and nothing remains."""
    server = Server(on_submit=lambda _: "hang")
    client = await FakeClient(server, tmp_path).open()
    client.submit("p")
    await asyncio.sleep(1)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0.5)
    closing.cancel()
    began = server.now()
    await asyncio.wait({closing}, timeout=100)
    assert server.now() - began < SECONDS
    assert not left_over()


# Hooks of a listener


class Listener:
    """A listener that records what it is told."""

    def __init__(self, fails_in: str = "") -> None:
        self.calls: list[Any] = []
        self._fails_in = fails_in

    def __call__(self, event: object) -> None:
        """Take an event."""

    def on_open(self, client: OmniClient) -> None:
        """Record."""
        self._record("open", client.statistics().submits)

    def on_close(self) -> None:
        """Record."""
        self._record("close")

    def _record(self, *call: object) -> None:
        self.calls.append(call)
        if self._fails_in == call[0]:
            raise ZeroDivisionError


@pytest.mark.parametrize("fails_in", ["", "open", "close"])
@pytest.mark.parametrize("how", ["with", "open"])
async def test_a_listener_is_told_of_opening_and_closing(tmp_path: Path, how: str, fails_in: str) -> None:
    """`on_open` comes when the client can be used and `on_close` once; what they raise changes nothing."""
    listener = Listener(fails_in)
    client = FakeClient(Server(), tmp_path, on_event=listener)
    if how == "with":
        async with client:
            assert await client.submit("p")
    else:
        await client.open()
        assert await client.submit("p")
        await client.aclose()
    await client.aclose()
    assert listener.calls == [("open", 0), ("close",)]


# What a web service promises


async def test_a_recorded_job_outlives_the_process(tmp_path: Path) -> None:
    """`recorded` returns as soon as the row is durable, before anything is sent."""
    server, ledger = Server(latency=5), SlowLedger(0.5)
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        job = client.submit("p", key="k")
        waiters = [asyncio.create_task(job.recorded()) for _ in range(3)]
        await asyncio.sleep(0.4)
        assert not any(waiter.done() for waiter in waiters)
        await asyncio.gather(*waiters)
        assert server.posts == []
        assert [record.key for record in await unfinished(ledger)] == ["k"]
        await job
        await job.recorded()
        same = client.submit("p", key="k")
        await same.recorded()
        with pytest.raises(KeyReused):
            await client.submit("another", key="k").recorded()


async def test_a_job_that_cannot_be_recorded_says_so(tmp_path: Path) -> None:
    """`recorded` raises what the ledger raised, and `ClientClosed` if the client is closed before."""

    class FullLedger(MemoryJobStore):
        def insert(self, record: Any) -> Any:
            raise LedgerError("disk full")

    async with FakeClient(Server(), tmp_path, ledger=FullLedger()) as client:
        with pytest.raises(LedgerError, match="disk full"):
            await client.submit("p").recorded()
    client = await FakeClient(Server(), tmp_path, ledger=SlowLedger(100)).open()
    waiter = asyncio.create_task(client.submit("p").recorded())
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosed):
        await waiter


async def test_a_job_is_found_by_its_key_until_it_is_done(tmp_path: Path) -> None:
    """`find` returns the same handle; a finished job, or one of another client, is none."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p", key="k")
        assert client.find("k") is job
        assert client.find("other") is None
        await job
        assert client.find("k") is None


async def test_a_job_as_json(tmp_path: Path) -> None:
    """It has the same fields in every status; paths are absolute, and everything is plain JSON."""
    async with FakeClient(Server(duration=30), tmp_path) as client:
        job = client.submit("p", key="k")
        before = job.as_json()
        assert (before["key"], before["status"], before["path"], before["progress"]) == ("k", "waiting", None, 0.0)
        path = await job
        after = job.as_json()
    assert after.keys() == before.keys()
    assert (after["status"], after["path"], after["paths"]) == ("completed", str(path), [str(path)])
    assert (after["progress"], after["task_id"], after["cost"]) == (100.0, job.task_id, job.cost)
    plain = (str, int, float, bool, list, type(None))
    assert all(type(value) in plain for value in after.values())


async def caught(waiter: Any) -> object:
    """Return the result of an awaitable, or the exception that it raised."""
    return (await asyncio.gather(waiter, return_exceptions=True))[0]
