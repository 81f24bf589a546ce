"""The transport in real time, over real sockets: requests, responses, uploads and downloads."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from omni_async import TransportError
from omni_async.api.http import HttpTransport, Timeouts
from omni_async.api.parsing import encode_json, parse_upload
from tests.support.http_servers import KEY, fetch, open_transport, raw_server, respond, two_origins, web_server

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.transport import Transport

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.mark.parametrize("status", [200, 202, 400, 401, 402, 404, 409, 413, 422, 429, 500, 502, 503])
async def test_every_status_is_a_response(status: int) -> None:
    """The transport returns every response, with header names in lower case."""

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text="hello", headers={"Retry-After": "3", "X-Oneapi-Request-Id": "r1"})

    async with web_server(handler) as url, open_transport(url) as transport:
        for reply in (
            await transport.submit(b"{}", "k"),
            await transport.check("t"),
            await transport.get("/v1/balance"),
        ):
            assert (reply.status, reply.body) == (status, b"hello")
            assert reply.headers["retry-after"] == "3"
            assert reply.headers["x-oneapi-request-id"] == "r1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_of_the_api_are_not_followed(status: int) -> None:
    """A redirect of a submit, a check or another call is returned: the key and the request go nowhere else."""
    hits: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        hits.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with web_server(handler) as url, open_transport(url) as transport:
        assert (await transport.submit(b"{}", "k")).status == status
        assert (await transport.check("t")).status == status
        assert (await transport.get("/v1/balance")).status == status
    assert "/elsewhere" not in hits


async def test_an_endless_response_is_cut_off() -> None:
    """It is judged by its beginning, before it fills the memory."""
    sent = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(200):
                await response.write(b"x" * 1024 * 1024)
                sent += 1
        except OSError:
            pass
        return response

    async with web_server(handler) as url, open_transport(url, Timeouts(check=20)) as transport:
        assert "more than" in (await transport.check("t")).cut_short
    assert sent < 100


async def test_a_compressed_bomb_is_cut_off() -> None:
    """A small compressed response that unpacks to a large one is cut off, too."""
    import zlib

    bomb = zlib.compress(b"x" * 60 * 1024 * 1024, 9)

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "deflate"})

    async with web_server(handler) as url, open_transport(url, Timeouts(check=20)) as transport:
        response = await transport.check("t")
    assert "more than" in response.cut_short
    assert len(response.body) == 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("task_id", "path"),
    [
        ("task_01ABC", "/v1/tasks/task_01ABC"),
        ("a/b?c#d e%20&é", "/v1/tasks/a%2Fb%3Fc%23d%20e%2520%26%C3%A9"),
        ("../balance", "/v1/tasks/..%2Fbalance"),
        ("x;y:z@w", "/v1/tasks/x%3By%3Az%40w"),
        ("雪", "/v1/tasks/%E9%9B%AA"),
    ],
)
async def test_odd_task_ids_are_percent_encoded(task_id: str, path: str) -> None:
    """A task id is opaque: it stays one segment of the path, with any characters."""
    async with (
        raw_server(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server,
        open_transport(server.url) as transport,
    ):
        await transport.check(task_id)
    assert server.requests[0].split(b" ")[1].decode() == path


@pytest.mark.parametrize("tail", ["/relay/v2", "/relay/v2/", "", "/"])
async def test_a_base_url_may_have_a_path(tail: str) -> None:
    """A gateway may serve the API below a path, with or without a final slash."""
    fine = respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with raw_server(fine) as server, open_transport(server.url + tail) as transport:
        await transport.submit(b"{}", "k")
        await transport.get("/v1/balance")
    prefix = tail.rstrip("/")
    assert server.requests[0].startswith(f"POST {prefix}/v1/videos/generations HTTP".encode())
    assert server.requests[1].startswith(f"GET {prefix}/v1/balance HTTP".encode())


async def test_a_submit_has_the_documented_headers_and_body() -> None:
    """Method, path, content type, API key, idempotency key and body are as the API documents them."""
    async with (
        raw_server(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server,
        open_transport(server.url) as transport,
    ):
        await transport.submit(encode_json({"prompt": "雪"}), "omni-1")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().decode().split("\r\n")
    assert lines[0].startswith("post /v1/videos/generations")
    assert f"authorization: bearer {KEY}" in lines
    assert "idempotency-key: omni-1" in lines
    assert "content-type: application/json" in lines
    assert json.loads(body) == {"prompt": "雪"}


async def test_a_tls_handshake_of_a_clip_host_times_out() -> None:
    """A download has no total timeout, but connecting has, TLS included."""

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(4)

    async with (
        raw_server(silent, reads=False) as server,
        open_transport("http://127.0.0.1:1", Timeouts(connect=0.3)) as transport,
    ):
        async with asyncio.timeout(3):
            with pytest.raises(TransportError):
                await fetch(transport, server.url.replace("http:", "https:") + "/clip")


async def test_cookies_are_not_kept() -> None:
    """A cookie is not sent back: jobs do not depend on each other."""
    seen = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(text="{}", headers={"Set-Cookie": "session=1"})

    async with web_server(handler) as url, open_transport(url) as transport:
        await transport.check("a")
        await transport.check("b")
    assert seen == [None, None]


async def test_an_image_is_uploaded_as_a_form(tmp_path: Path) -> None:
    """The image is sent as multipart field `file` with its name, together with the API key."""
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG" + bytes(range(256)) * 100)
    got: dict[str, Any] = {}

    async def handler(request: web.BaseRequest) -> web.Response:
        async for part in await request.multipart():
            got.update(name=part.name, filename=part.filename, content=bytes(await part.read()))  # type: ignore[union-attr]
        got["key"] = request.headers["Authorization"]
        return web.json_response({"url": "https://u.test/1"})

    async with web_server(handler) as url, open_transport(url) as transport:
        assert parse_upload(await transport.upload(image)) == "https://u.test/1"
    assert got["content"] == image.read_bytes()
    assert (got["name"], got["filename"], got["key"]) == ("file", image.name, f"Bearer {KEY}")


async def test_an_upload_is_read_in_chunks(tmp_path: Path) -> None:
    """An image of 20 MB is sent without 20 MB of memory."""
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG" + bytes(20_000_000))

    async def handler(request: web.BaseRequest) -> web.Response:
        size = sum([len(chunk) async for chunk in request.content.iter_chunked(65536)])
        return web.json_response({"url": f"https://u.test/{size}"})

    async with web_server(handler) as url, open_transport(url, Timeouts()) as transport:
        await transport.check("warm")
        tracemalloc.start()
        try:
            url_of_upload = parse_upload(await transport.upload(image))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert int((url_of_upload or "").rsplit("/", 1)[1]) > 20_000_000
    assert peak < 4_000_000


async def test_an_upload_can_be_cancelled(tmp_path: Path) -> None:
    """The connection and the file are closed, and the next request works."""
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG" + bytes(20_000_000))
    came = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.json_response({})
        await request.content.readany()
        came.set()
        await asyncio.sleep(20)
        return web.json_response({})

    async with web_server(handler) as url, open_transport(url, Timeouts()) as transport:
        uploading = asyncio.create_task(transport.upload(image))
        await came.wait()
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert (await transport.check("a")).status == 200
        image.unlink()


async def test_relative_redirects_are_followed_and_endless_ones_are_not() -> None:
    """A relative Location is resolved; a redirect loop ends with an error."""
    async with two_origins() as (origins, transport):
        assert await fetch(transport, f"{origins.cdn}/to/302?/clip") == b"clip"

    async def circle(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": request.path + "x"})

    async with web_server(circle) as url, open_transport(url) as transport:
        with pytest.raises(TransportError, match="redirect"):
            await fetch(transport, f"{url}/")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,hi", "javascript:1", "//", "http://", "x y"]
)
async def test_only_http_urls_are_fetched(target: str) -> None:
    """No other scheme is accepted, neither as the URL nor as the target of a redirect."""
    async with two_origins() as (origins, transport):
        with pytest.raises(TransportError):
            await fetch(transport, target)
        if ":" in target and "http" not in target:
            with pytest.raises(TransportError):
                await fetch(transport, f"{origins.cdn}/to/302?{target}")


async def test_a_signed_url_is_requested_unchanged() -> None:
    """The characters of a signature are neither encoded nor decoded."""
    target = "/f/a%2Fb%20c+d.mp4?sig=a%2Bb%2F%3D&e=%7E~!$'()*,;:@&x=%e3%81%82"
    async with (
        raw_server(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nclip")) as server,
        open_transport(server.url) as transport,
    ):
        assert await fetch(transport, server.url + target) == b"clip"
    assert server.requests[0].split(b" ")[1].decode() == target


@pytest.mark.slow
async def test_many_concurrent_requests_share_one_session() -> None:
    """Three hundred concurrent requests all get their own response."""

    async def handler(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(text=request.path)

    async with web_server(handler) as url, open_transport(url, Timeouts()) as transport:
        replies = await asyncio.gather(*(transport.check(f"t{number}") for number in range(300)))
        assert [reply.body.decode() for reply in replies] == [f"/v1/tasks/t{number}" for number in range(300)]


async def test_a_transport_can_be_closed_twice() -> None:
    """A transport that was never used, or is closed already, can be closed."""
    transport: Transport = HttpTransport("http://127.0.0.1:1", KEY)
    await transport.aclose()
    await transport.aclose()
