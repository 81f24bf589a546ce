"""The live page as a server: what it tells, to whom, and which files it gives."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from omni_async import LedgerReader, OmniClient, Polling
from omni_async.gallery import LivePage
from omni_async.gallery import subscribers as audience
from omni_async.sandbox import Sandbox
from tests.support.listening import PATIENCE, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a module, so that its tests can share a sandbox."""
    return "asyncio"


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """Serve for all tests of the module."""
    async with Sandbox(median=0.05, prerendered=True, seconds=3) as opened:
        yield opened


@asynccontextmanager
async def running(sandbox: Sandbox, folder: Path, **place: Any) -> AsyncIterator[tuple[OmniClient, LivePage]]:
    """Open a client whose events a live page hears."""
    live = LivePage(folder / "ledger.db", **({"port": 0} | place))
    address: dict[str, Any] = {"base_url": sandbox.base_url, "output_dir": folder}
    async with OmniClient(
        sandbox.api_key, **address, polling=Polling(min_interval=0.05), on_event=live.on_event
    ) as client:
        yield client, live


async def get(address: str, path: str = "", **headers: str) -> tuple[int, bytes, Any]:
    """Ask for a path just as it is spelt; gives status, content and headers."""
    asked = URL(address + path, encoded=True)
    async with aiohttp.ClientSession() as session, session.get(asked, headers=headers) as response:
        return response.status, await response.read(), response.headers


async def test_a_reader_may_come_at_any_time(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is told the whole ledger, then each change; a second one hears the same; both are told that it has ended."""
    async with AsyncExitStack() as stack, running(sandbox, tmp_path) as (client, live):
        async with live.serve(client, total=3) as address:
            await client.submit("an apple", key="a")
            early = await stack.enter_async_context(listening(address))
            await early.until(lambda heard: "ready" in heard.names)
            assert early.names[0] == "begin"
            assert (early.jobs["a"]["status"], early.run["total"]) == ("completed", 3)
            assert not early.run["ended"]

            job = client.submit("a pear", key="b", aspect_ratio="9:16")
            await early.until(lambda heard: heard.jobs.get("b", {}).get("status") == "completed")
            told = early.jobs["b"]
            assert (told["prompt"], told["ratio"], told["cost"]) == ("a pear", 0.5625, job.cost)
            assert (told["clips"], told["poster"]) == (["b.mp4"], ".posters/b.mp4.jpg")

            late = await stack.enter_async_context(listening(address))
            await late.until(lambda heard: "ready" in heard.names)
            assert late.jobs == early.jobs
        for reader in (early, late):
            await reader.to_the_end()
            assert reader.run["ended"]
            assert (reader.run["statistics"]["done"], reader.run["statistics"]["cost"]) == (2, client.statistics().cost)


async def test_what_it_tells_is_what_the_ledger_says(sandbox: Sandbox, tmp_path: Path) -> None:
    """After forty jobs at once, every one of them stands in the page as it stands in the ledger."""
    async with AsyncExitStack() as stack, running(sandbox, tmp_path) as (client, live):
        async with live.serve(client) as address:
            reader = await stack.enter_async_context(listening(address))
            listener = asyncio.create_task(reader.to_the_end())
            await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(40)))
        await listener
        with LedgerReader(tmp_path) as ledger:
            recorded = {record.key: (record.status, record.task_id, record.cost) for record in ledger.jobs()}
        assert set(reader.progress) <= set(recorded)
        assert len(reader.progress) > 0
        told = {key: (job["status"], job["task"], job["cost"]) for key, job in reader.jobs.items()}
        assert told == recorded
        assert len(reader.names) < 40  # changes come together, and not each for itself


async def test_only_clips_of_the_folder_are_given(sandbox: Sandbox, tmp_path: Path) -> None:
    """With ranges, and posters made when they are asked for; the ledger and other files and folders are not there."""
    folder = tmp_path / "clips"
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    async with running(sandbox, folder) as (client, live), live.serve(client) as address:
        clip = await client.submit("an apple", key='odd #1 50% <b> "ü"')
        name = URL.build(path=f"/{clip.name}").raw_path[1:]
        whole = clip.read_bytes()
        assert (await get(address, name))[:2] == (200, whole)
        status, part, headers = await get(address, name, Range="bytes=10-19")
        assert (status, part, headers["Content-Range"]) == (206, whole[10:20], f"bytes 10-19/{len(whole)}")
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        status, poster, headers = await get(address, f".posters/{name}.jpg")
        assert (status, headers["Content-Type"], poster[:2]) == (200, "image/jpeg", b"\xff\xd8")

        (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
        (folder / "folder.mp4").mkdir()
        others = [
            "ledger.db",
            "ledger.db-wal",
            "none.mp4",
            "link.mp4",
            "folder.mp4",
            ".posters/index.json",
            ".posters/",
        ]
        ways_out = ["../secret.mp4", "..%2Fsecret.mp4", "%2e%2e/secret.mp4", ".posters/..%2f..%2fsecret.mp4.jpg"]
        nonsense = ["%00.mp4", ".posters/%00.jpg", "x" * 5000 + ".mp4"]
        for path in (*others, *ways_out, *nonsense):
            status, content, _ = await get(address, path)
            assert (status, b"secret" in content) == (404, False), path
        async with aiohttp.ClientSession() as session, session.post(address) as refused:
            assert refused.status == 405


@pytest.mark.parametrize(
    ("host", "known", "strange"),
    [
        (
            "127.0.0.1",
            ["127.0.0.1:1", "localhost", "[::1]:1"],
            ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""],
        ),
        ("0.0.0.0", ["10.0.0.1:8080", "localhost", socket.gethostname()], ["evil.example", "x@evil.example"]),
    ],
)
async def test_no_strange_name_leads_here(
    sandbox: Sandbox, tmp_path: Path, host: str, known: list[str], strange: list[str]
) -> None:
    """A page of a stranger that lets its own name point at this machine learns nothing."""
    async with running(sandbox, tmp_path, host=host) as (client, live), live.serve(client) as address:
        assert live.is_for_all == (host != "127.0.0.1")
        assert address.startswith("http://127.0.0.1:")
        for path in ("", "events", "none.mp4"):
            for name in strange:
                assert (await get(address, path, Host=name))[0] == 403, name
        for name in known:
            status, page, headers = await get(address, Host=name)
            assert (status, b"<!doctype html>" in page) == (200, True), name
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_what_its_block_raises_comes_out_as_it_is(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No group around it; and a page that has broken down harms no run."""

    async def run() -> None:
        async with running(sandbox, tmp_path) as (client, live), live.serve(client):
            live._stands = lambda: {"statistics": 1 / 0}
            assert (await client.submit("an apple")).is_file()
            await asyncio.sleep(0.6)
            raise LookupError

    with pytest.raises(LookupError):
        await run()
    assert "ZeroDivisionError" in caplog.text


async def test_a_taken_port_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    """A port that was asked for and is in use raises; nothing is left listening."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(sandbox, tmp_path, port=port) as (client, live):
            with pytest.raises(OSError, match="address already in use"):
                async with live.serve(client):
                    pass


async def test_who_does_not_read_is_let_go(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes nothing is cut off once its backlog is full; others and the run do not wait for it."""
    monkeypatch.setattr(audience, "_BACKLOG", 3)
    async with running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        for number in range(40):  # more than what fits into the buffers between two sockets
            client.submit("x" * 200_000 + str(number), key=str(number))
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((host, int(port)))
        lazy.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            while not live._audience:
                await asyncio.sleep(0.01)
            number = 0
            while live._audience:
                await client.submit(f"one more {number}", key=f"more {number}")
                number += 1
        lazy.close()
        async with listening(address) as reader:
            await reader.until(lambda heard: "ready" in heard.names)
            assert len(reader.jobs) == 40 + number


async def test_nobody_looks_and_nothing_is_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """Without a reader no row is looked up, and what is noted of old news is forgotten."""
    async with running(sandbox, tmp_path) as (client, live), live.serve(client):
        looked: list[object] = []
        live._look_up = lambda *_: looked.append(1) or []  # type: ignore[method-assign, func-returns-value]
        await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(5)))
        await asyncio.sleep(1.2)
        assert looked == []
        assert len(live._news) == 5
        live._forget_old_news(float("inf"))
        assert live._news == {}
