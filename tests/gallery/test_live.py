"""The server of the live page: what it sends, to whom, and which files it serves."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from omni_async import JobEvent, JobStatus, LedgerReader, OmniClient
from omni_async.gallery import LivePage, files
from omni_async.sandbox import Sandbox
from tests.support.gallery_folder import QUICK
from tests.support.listening import TIMEOUT, subscribed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Browser


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """Start one sandbox for all tests of the module."""
    async with Sandbox(median=0.05, prerendered=True, seconds=3) as opened:
        yield opened


@pytest.fixture(autouse=True)
def quick_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send updates every 0.1 s, so that the tests wait less."""
    monkeypatch.setattr("omni_async.gallery.live._UPDATE_INTERVAL", 0.1)


@asynccontextmanager
async def running(sandbox: Sandbox, folder: Path, **address: Any) -> AsyncIterator[tuple[OmniClient, LivePage]]:
    """Open a client that passes its events to a live page."""
    live = LivePage(folder / "ledger.db", **({"port": 0} | address))
    settings: dict[str, Any] = {"base_url": sandbox.base_url, "output_dir": folder} | QUICK
    async with OmniClient(sandbox.api_key, **settings, on_event=live.on_event) as client:
        yield client, live


def connected(address: str) -> socket.socket:
    """Return a socket with a small buffer that is connected to a live page."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    connection.connect((host, int(port)))
    return connection


async def get(address: str, path: str = "", **headers: str) -> tuple[int, bytes, Any]:
    """Request a path exactly as it is written; return status, content and headers."""
    url = URL(address + path, encoded=True)
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.read(), response.headers


async def test_a_browser_can_connect_at_any_time(sandbox: Sandbox, tmp_path: Path) -> None:
    """It receives the complete ledger, then each change. A second one receives the same. Both receive the end."""
    async with AsyncExitStack() as stack, running(sandbox, tmp_path) as (client, live):
        async with live.serve(client, total=3) as address:
            await client.submit("an apple", key="a")
            early = await stack.enter_async_context(subscribed(address))
            await early.wait_for(lambda state: "ready" in state.names)
            assert early.names[0] == "begin"
            assert (early.jobs["a"]["status"], early.run["total"]) == ("completed", 3)
            assert not early.run["has_ended"]

            job = client.submit("a pear", key="b", aspect_ratio="9:16")
            await early.wait_for(lambda state: state.jobs.get("b", {}).get("status") == "completed")
            entry = early.jobs["b"]
            assert (entry["prompt"], entry["aspect_ratio"], entry["cost"]) == ("a pear", 0.5625, job.cost)
            assert (entry["clips"], entry["poster"]) == (["b.mp4"], ".posters/b.mp4.jpg")

            late = await stack.enter_async_context(subscribed(address))
            await late.wait_for(lambda state: "ready" in state.names)
            assert late.jobs == early.jobs
        for subscriber in (early, late):
            await subscriber.wait_until_end()
            assert subscriber.run["has_ended"]
            statistics = subscriber.run["statistics"]
            assert (statistics["completed"], statistics["cost"]) == (2, client.statistics().cost)


@pytest.mark.slow
async def test_the_page_shows_what_the_ledger_records(sandbox: Sandbox, tmp_path: Path) -> None:
    """After forty concurrent jobs, each has the status, task_id and cost of its row in the ledger."""
    async with AsyncExitStack() as stack, running(sandbox, tmp_path) as (client, live):
        async with live.serve(client) as address:
            subscriber = await stack.enter_async_context(subscribed(address))
            receiving = asyncio.create_task(subscriber.wait_until_end())
            await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(40)))
        await receiving
        with LedgerReader(tmp_path) as ledger:
            recorded = {record.key: (record.status, record.task_id, record.cost) for record in ledger.jobs()}
        assert set(subscriber.progress) <= set(recorded)
        shown = {key: (job["status"], job["task_id"], job["cost"]) for key, job in subscriber.jobs.items()}
        assert shown == recorded
        assert len(subscriber.names) < 40  # changes are sent together, not one by one


async def test_progress_is_shown_to_every_browser(sandbox: Sandbox, tmp_path: Path) -> None:
    """To one that is connected when it is reported, and to one that comes later."""
    async with AsyncExitStack() as stack, running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        early = await stack.enter_async_context(subscribed(address))
        await early.wait_for(lambda state: "ready" in state.names)
        running_job = JobStatus.RUNNING
        live.on_event(
            JobEvent(timestamp=0.0, key="a", task_id="t", status=running_job, previous=running_job, progress=40)
        )
        await early.wait_for(lambda state: state.progress == {"a": 40})
        late = await stack.enter_async_context(subscribed(address))
        await late.wait_for(lambda state: state.progress == {"a": 40})


async def test_only_clips_and_posters_are_served(sandbox: Sandbox, tmp_path: Path) -> None:
    """Range requests work, and posters are made on request. The ledger and all other files are not found."""
    folder = tmp_path / "clips"
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    async with running(sandbox, folder) as (client, live), live.serve(client) as address:
        clip = await client.submit("an apple", key='odd #1 50% <b> "ü"')
        name = URL.build(path=f"/{clip.name}").raw_path[1:]
        complete = clip.read_bytes()
        assert (await get(address, name))[:2] == (200, complete)
        status, part, headers = await get(address, name, Range="bytes=10-19")
        assert (status, part, headers["Content-Range"]) == (206, complete[10:20], f"bytes 10-19/{len(complete)}")
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        status, poster, headers = await get(address, f".posters/{name}.jpg")
        assert (status, headers["Content-Type"], poster[:2]) == (200, "image/jpeg", b"\xff\xd8")

        (folder / "mine.mp4").write_bytes(b"secret")  # not a clip of this ledger
        (folder / f"{clip.name}.gz").write_bytes(b"secret")
        assert (await get(address, name, **{"Accept-Encoding": "gzip, br"}))[:2] == (200, complete)
        (folder / ".posters" / "mine.mp4.jpg").write_bytes(b"secret")
        (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
        (folder / "folder.mp4").mkdir()
        others = [
            "ledger.db",
            "ledger.db-wal",
            "none.mp4",
            "mine.mp4",
            ".posters/mine.mp4.jpg",
            f"{name}.gz",
            "link.mp4",
            "folder.mp4",
            ".posters/index.json",
            ".posters/",
        ]
        traversals = ["../secret.mp4", "..%2Fsecret.mp4", "%2e%2e/secret.mp4", ".posters/..%2f..%2fsecret.mp4.jpg"]
        invalid = ["%00.mp4", ".posters/%00.jpg", "x" * 5000 + ".mp4"]
        for path in (*others, *traversals, *invalid):
            status, content, _ = await get(address, path)
            assert (status, b"secret" in content) == (404, False), path
        async with aiohttp.ClientSession() as session, session.post(address) as rejected:
            assert rejected.status == 405


@pytest.mark.parametrize(
    ("host", "allowed", "rejected"),
    [
        (
            "127.0.0.1",
            ["127.0.0.1:1", "localhost", "[::1]:1"],
            ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""],
        ),
        ("0.0.0.0", ["10.0.0.1:8080", "localhost", socket.gethostname()], ["evil.example", "x@evil.example"]),
    ],
)
async def test_other_host_names_are_rejected(
    sandbox: Sandbox, tmp_path: Path, host: str, allowed: list[str], rejected: list[str]
) -> None:
    """A site that points its own name at this machine (DNS rebinding) cannot read the page."""
    async with running(sandbox, tmp_path, host=host) as (client, live), live.serve(client) as address:
        assert live.is_exposed == (host != "127.0.0.1")
        assert address.startswith("http://127.0.0.1:")
        for path in ("", "events", "none.mp4"):
            for name in rejected:
                assert (await get(address, path, Host=name))[0] == 403, name
        for name in allowed:
            status, page, headers = await get(address, Host=name)
            assert (status, b"<!doctype html>" in page) == (200, True), name
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_a_clip_that_was_replaced_by_a_link_is_not_served(sandbox: Sandbox, tmp_path: Path) -> None:
    """Neither the clip, nor its poster, nor a poster in a folder that is a link."""
    folder, secret = tmp_path / "clips", tmp_path / "secret"
    async with running(sandbox, folder) as (client, live), live.serve(client) as address:
        await client.submit("an apple", key="a")
        await client.submit("a pear", key="b")
        assert (await get(address, ".posters/a.mp4.jpg"))[0] == (await get(address, "b.mp4"))[0] == 200
        secret.mkdir()
        for name in ("a.mp4.jpg", "b.mp4"):
            (secret / name).write_bytes(b"secret")
        (folder / "b.mp4").unlink()
        (folder / "b.mp4").symlink_to(secret / "b.mp4")
        assert (await get(address, "b.mp4"))[0] == 404
        (folder / "b.mp4").unlink()
        (folder / "b.mp4").symlink_to(folder / "a.mp4")
        assert (await get(address, ".posters/b.mp4.jpg"))[0] == 404
        assert not (folder / ".posters" / "b.mp4.jpg").exists()
        (folder / ".posters" / "a.mp4.jpg").unlink()
        (folder / ".posters" / "a.mp4.jpg").symlink_to(secret / "a.mp4.jpg")
        assert (await get(address, ".posters/a.mp4.jpg"))[0] == 404
        (folder / ".posters").rename(tmp_path / "posters")
        (folder / ".posters").symlink_to(secret)
        assert (await get(address, ".posters/a.mp4.jpg"))[0] == 404


async def test_requests_that_another_site_causes_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    """An image, a frame, a fetch or a form of another site or port; not a link to the page, and not another program."""
    async with running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        await client.submit("an apple", key="a")
        own = address.removesuffix("/")

        async def status(path: str, site: str = "", mode: str = "", dest: str = "", **headers: str) -> int:
            sent = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
            return (await get(address, path, **{name: value for name, value in sent.items() if value}, **headers))[0]

        for path in ("", "a.mp4", ".posters/a.mp4.jpg", "events", "none.mp4"):
            for site in ("cross-site", "same-site", "something new"):
                assert await status(path, site, "no-cors", "video") == 403
                assert await status(path, site, "navigate", "iframe") == 403
            for origin in (
                "http://evil.example",
                "null",
                "https://127.0.0.1",
                "http://localhost:1",
                "junk",
                "http://[",
            ):
                assert await status(path, Origin=origin) == 403, origin
        assert await status("", "cross-site", "navigate", "document") == 200
        assert await status("a.mp4", "same-origin", "no-cors", "video") == 200
        assert await status("a.mp4", "none", "navigate", "document") == 200
        assert await status("a.mp4", Origin=own) == await status("a.mp4") == 200


async def test_too_many_subscribers_are_told_to_come_back(sandbox: Sandbox, tmp_path: Path) -> None:
    """The ceiling is half of all connections, so that the page itself can still be loaded."""
    async with AsyncExitStack() as stack, running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        live._subscribers._limit = 2
        for _ in range(2):
            early = await stack.enter_async_context(subscribed(address))
        status, _, headers = await get(address, "events")
        assert (status, int(headers["Retry-After"]) > 0) == (503, True)
        assert (await get(address))[0] == 200
        await client.submit("an apple", key="a")
        await early.wait_for(lambda state: state.jobs.get("a", {}).get("status") == "completed")


@pytest.mark.slow
async def test_a_browser_that_was_refused_tries_again(sandbox: Sandbox, tmp_path: Path, browser: Browser) -> None:
    """The page says why it shows nothing, and follows the run as soon as there is a place."""
    state = "document.getElementById('live').innerText"
    async with running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        live._subscribers._limit = 0
        await asyncio.to_thread(browser.open, address)
        await asyncio.to_thread(browser.wait_for, state, accept=lambda text: "too many browsers" in text)
        live._subscribers._limit = 1
        await asyncio.to_thread(browser.wait_for, state, accept=lambda text: "0 of 0 completed" in text)
    browser.console_errors()  # the refusal, and the end of the stream


async def test_a_poster_that_was_made_reaches_browsers_that_are_connected(sandbox: Sandbox, tmp_path: Path) -> None:
    """They learn the size and the length of the clip, as one that connects later does."""
    async with running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        await client.submit("an apple", key="a")
        async with subscribed(address) as subscriber:
            await subscriber.wait_for(lambda state: "a" in state.jobs)
            assert "width" not in subscriber.jobs["a"]
            assert (await get(address, ".posters/a.mp4.jpg"))[0] == 200
            await subscriber.wait_for(lambda state: "width" in state.jobs["a"])


async def test_the_exception_of_the_block_is_raised_unchanged(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not wrapped in an exception group. A fault of the page is logged and does not fail the run."""

    async def run() -> None:
        async with running(sandbox, tmp_path) as (client, live), live.serve(client):
            live._status = lambda: {"statistics": 1 / 0}
            assert (await client.submit("an apple")).is_file()
            await asyncio.sleep(0.2)
            raise LookupError

    with pytest.raises(LookupError):
        await run()
    assert "ZeroDivisionError" in caplog.text


async def test_a_port_in_use_raises(sandbox: Sandbox, tmp_path: Path) -> None:
    """A requested port that is in use raises `OSError`, and nothing listens afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(sandbox, tmp_path, port=port) as (client, live):
            with pytest.raises(OSError, match="Address already in use"):
                async with live.serve(client):
                    pass


@pytest.mark.slow
async def test_a_subscriber_that_has_stopped_reading_is_disconnected(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber that reads nothing is disconnected after a while. Others and the run do not wait."""
    monkeypatch.setattr(files, "STALL_TIMEOUT", 0.5)
    async with running(sandbox, tmp_path) as (client, live), live.serve(client) as address:
        for number in range(40):  # more than the buffers between two sockets hold
            client.submit("x" * 200_000 + str(number), key=str(number))
        slow = connected(address)
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(TIMEOUT):
            while not live._subscribers:
                await asyncio.sleep(0.01)
            await client.submit("one more", key="one more")
            while live._subscribers:
                await asyncio.sleep(0.01)
        slow.close()
        async with subscribed(address) as subscriber:
            await subscriber.wait_for(lambda state: "ready" in state.names)
            assert len(subscriber.jobs) == 41


async def test_without_a_subscriber_the_ledger_is_not_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """No row is read, and changes older than their lifetime are forgotten."""
    async with running(sandbox, tmp_path) as (client, live), live.serve(client):
        read: list[object] = []
        live._read_ledger = lambda *_: read.append(1)  # type: ignore[method-assign, assignment]
        await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(5)))
        await asyncio.sleep(0.4)
        assert read == []
        assert len(live._changed) == 5
        live._forget_changes(float("inf"))
        assert live._changed == {}
