"""The transport in real time, against real sockets that behave, misbehave, and listen for the key."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import socket
import ssl
import traceback
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from omni_async import OmniClient, OmniError, Retry, TransportError, TransportTimeout
from omni_async.api.http import HttpTransport, Secret, Timeouts
from omni_async.api.parsing import encode_json, parse_upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from omni_async.api.transport import Transport

pytestmark = pytest.mark.timeout(30)

KEY = "sk-s3cr3t-0123456789abcdef"
SHORT = Timeouts(connect=1.0, submit=0.4, check=0.4, upload=1.0, idle=0.4)


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's own settings out."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Raw:
    """A server that reads one request and then does what it was told, byte by byte."""

    def __init__(self, act: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], *, reads: bool = True) -> None:
        self.act = act
        self.reads = reads
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deal with one connection."""
        try:
            request = b""
            if self.reads:
                request = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                request += await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.requests.append(request)
            await self.act(request, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw(
    act: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], *, reads: bool = True
) -> AsyncIterator[Raw]:
    """Open a raw server."""
    server = Raw(act, reads=reads)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


def says(answer: bytes) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """Give an act that writes this and closes."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return act


@asynccontextmanager
async def web_server(handler: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Open an HTTP server with one handler for everything; gives its URL."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def transport(url: str, timeouts: Timeouts = SHORT) -> AsyncIterator[HttpTransport]:
    """Open a transport."""
    made = HttpTransport(url, KEY, timeouts=timeouts)
    try:
        yield made
    finally:
        await made.aclose()


def closed_port() -> int:
    """Give a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def everything_said(error: BaseException) -> str:
    """Give all that a traceback, a log or a pickle of an error could show."""
    texts, seen = [], set[int]()
    queue: list[BaseException | None] = [error]
    while queue:
        each = queue.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += [str(each), repr(each), repr(each.args), repr(vars(each)), "".join(traceback.format_exception(each))]
        queue += [each.__cause__, each.__context__]
        for name, value in vars(each).items():
            texts.append(f"{name}={getattr(value, '__dict__', value)!r}")
    texts.append(repr(pickle.dumps(error)))
    return "\n".join(texts)


async def error_of(work: Awaitable[object]) -> TransportError:
    """Give the error that comes of this."""
    with pytest.raises(TransportError) as caught:
        await work
    assert KEY not in everything_said(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


# Sent or not


async def test_a_refused_connection_is_not_sent() -> None:
    """Nobody listens: certainly no byte left."""
    async with transport(f"http://127.0.0.1:{closed_port()}") as made:
        assert not (await error_of(made.submit(b"{}", "k"))).sent


async def test_an_unknown_host_is_not_sent() -> None:
    """A name that does not resolve: certainly no byte left."""
    async with transport("http://no-such-host.invalid") as made:
        assert not (await error_of(made.submit(b"{}", "k"))).sent


async def test_a_connection_that_is_never_made_is_not_sent() -> None:
    """A full backlog: the connect timeout says that no byte left, and that time ran out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        async with transport(f"http://127.0.0.1:{listener.getsockname()[1]}", Timeouts(connect=0.3, submit=5)) as made:
            error = await error_of(made.submit(b"{}", "k"))
        for filler in fillers:
            filler.close()
    assert not error.sent
    assert isinstance(error, TransportTimeout)


async def test_a_failed_tls_handshake_is_not_sent() -> None:
    """TLS to a server that speaks none fails before any byte of the request."""
    plain = says(b"HTTP/1.1 400 no\r\n\r\n")
    async with raw(plain, reads=False) as server, transport(server.url.replace("http:", "https:")) as made:
        assert not (await error_of(made.submit(b"{}", "k"))).sent


async def test_a_tls_handshake_that_hangs_is_not_sent() -> None:
    """A server that accepts the connection and then keeps silent under TLS has got no byte of the request."""

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3)

    async with raw(silent, reads=False) as server, transport(server.url.replace("http:", "https:")) as made:
        error = await error_of(made.submit(b"{}", "k"))
    assert not error.sent
    assert isinstance(error, TransportTimeout)


async def test_closed_after_the_body_may_have_been_sent() -> None:
    """A disconnect after the request proves nothing."""
    async with raw(says(b"")) as server, transport(server.url) as made:
        assert (await error_of(made.submit(b"{}", "k"))).sent
    assert len(server.requests) == 1, "a POST is never resent by the transport itself"


async def test_closed_before_reading_may_have_been_sent() -> None:
    """A disconnect at once after connecting: a byte may have left, so it counts as sent unless proved otherwise."""
    async with raw(says(b""), reads=False) as server, transport(server.url) as made:
        await error_of(made.submit(b"{}", "k"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhel\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 3\r\n\r\n\x78\x9c\xff",
        b"\x00\x01\x02garbage",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/9.9 999999 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here " + KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Bad\x00: " + KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 2oo OK " + KEY.encode() + b"\r\n\r\n",
        KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["cut", "chunks cut", "bad chunk", "bad gzip", "bad length", "bad deflate", "garbage", "ssh", "version",
         "long header", "bad header with key", "bad name with key", "bad line with key", "key alone", "only 100"],
)  # fmt: skip
async def test_a_reply_that_cannot_be_read_may_have_been_sent(answer: bytes) -> None:
    """Whatever nonsense comes back, it is one `TransportError` that says "sent", without the key."""
    async with raw(says(answer)) as server, transport(server.url) as made:
        assert (await error_of(made.submit(b"{}", "k"))).sent
    assert len(server.requests) == 1


async def test_silence_after_the_request_is_a_timeout_that_may_have_been_sent() -> None:
    """No answer in time."""

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    async with raw(silent) as server, transport(server.url) as made:
        error = await error_of(made.submit(b"{}", "k"))
        assert error.sent
        assert isinstance(error, TransportTimeout)


async def test_a_trickling_reply_is_bounded() -> None:
    """A reply of which a byte comes now and then does not outlast the timeout."""

    async def trickle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _number in range(40):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw(trickle) as server, transport(server.url) as made:
        began = asyncio.get_running_loop().time()
        assert isinstance(await error_of(made.check("t")), TransportTimeout)
        assert asyncio.get_running_loop().time() - began < 1.5


async def test_a_connection_is_reused_but_not_once_it_may_be_about_to_close() -> None:
    """The next request goes over the same one; after five idle seconds, when many servers close, over a new one."""
    visitors = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        visitors.append(request.transport.get_extra_info("peername"))
        return web.json_response({})

    async with web_server(handler) as url, transport(url) as made:
        await made.check("t")
        await made.check("t")
        await asyncio.sleep(5)
        await made.submit(b"{}", "k")
    assert visitors[0] == visitors[1] != visitors[2]


async def test_a_reused_connection_that_dies_is_told_as_sent_and_not_resent() -> None:
    """A POST into a kept connection that the server closes just then is not resent behind our back."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as made:
        await made.check("t")
        error = await error_of(made.submit(b"{}", "k"))
        assert error.sent
        assert seen == [b"GET", b"POST"]


# Replies


@pytest.mark.parametrize("status", [200, 202, 400, 401, 402, 404, 409, 413, 422, 429, 500, 502, 503])
async def test_no_status_is_an_error_of_the_transport(status: int) -> None:
    """Every answer comes back as it is, with names of headers in lower case."""

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text="hello", headers={"Retry-After": "3", "X-Oneapi-Request-Id": "r1"})

    async with web_server(handler) as url, transport(url) as made:
        for reply in (await made.submit(b"{}", "k"), await made.check("t"), await made.get("/v1/balance")):
            assert (reply.status, reply.body) == (status, b"hello")
            assert reply.headers["retry-after"] == "3"
            assert reply.headers["x-oneapi-request-id"] == "r1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_but_for_clips(status: int) -> None:
    """A redirect of a POST, a check or a question is handed back as it is: the key and the order go nowhere else."""
    hits: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        hits.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with web_server(handler) as url, transport(url) as made:
        assert (await made.submit(b"{}", "k")).status == status
        assert (await made.check("t")).status == status
        assert (await made.get("/v1/balance")).status == status
    assert "/elsewhere" not in hits


async def test_an_oversized_reply_is_refused() -> None:
    """A reply without end is cut off, not read into memory."""
    sent = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            for _ in range(200):
                await answer.write(b"x" * 1024 * 1024)
                sent += 1
        except OSError:
            pass
        return answer

    async with web_server(handler) as url, transport(url, Timeouts(check=20)) as made:
        with pytest.raises(TransportError, match="more than"):
            await made.check("t")
    assert sent < 100


async def test_a_compressed_bomb_is_refused() -> None:
    """A small compressed reply that unpacks to gigabytes is cut off too."""
    import zlib

    bomb = zlib.compress(b"x" * 60 * 1024 * 1024, 9)

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "deflate"})

    async with web_server(handler) as url, transport(url, Timeouts(check=20)) as made:
        with pytest.raises(TransportError):
            await made.check("t")


# Addresses


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
    """A task_id is opaque: it stays one part of the path, whatever characters it has."""
    async with raw(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server, transport(server.url) as made:
        await made.check(task_id)
    assert server.requests[0].split(b" ")[1].decode() == path


@pytest.mark.parametrize("tail", ["/relay/v2", "/relay/v2/", "", "/"])
async def test_a_base_url_may_have_a_path(tail: str) -> None:
    """Relays are served below a path; a slash at the end makes no difference."""
    fine = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with raw(fine) as server, transport(server.url + tail) as made:
        await made.submit(b"{}", "k")
        await made.get("/v1/balance")
    prefix = tail.rstrip("/")
    assert server.requests[0].startswith(f"POST {prefix}/v1/videos/generations HTTP".encode())
    assert server.requests[1].startswith(f"GET {prefix}/v1/balance HTTP".encode())


async def test_a_submit_carries_what_it_must() -> None:
    """Method, path, content type, key, idempotency key and body are as the page says."""
    async with raw(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server, transport(server.url) as made:
        await made.submit(encode_json({"prompt": "雪"}), "omni-1")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().decode().split("\r\n")
    assert lines[0].startswith("post /v1/videos/generations")
    assert f"authorization: bearer {KEY}" in lines
    assert "idempotency-key: omni-1" in lines
    assert "content-type: application/json" in lines
    assert json.loads(body) == {"prompt": "雪"}


async def test_a_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .netrc with a default entry neither replaces the API key nor breaks the request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with raw(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server, transport(server.url) as made:
        await made.submit(b"{}", "k")
        await made.check("t")
    assert all(f"Bearer {KEY}".encode() in request for request in server.requests)


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can reach the world only by a proxy says so in the environment, and it works; no_proxy is kept."""
    answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with raw(answer) as proxy, raw(answer) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with transport("http://api.invalid") as made:
            assert (await made.submit(b"{}", "k")).status == 200
            assert await fetched(made, "http://cdn.invalid/clip") == b"{}"
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        async with transport(server.url) as made:
            assert (await made.check("t")).status == 200
    assert proxy.requests[0].startswith(b"POST http://api.invalid/v1/videos/generations")
    assert KEY.encode() not in proxy.requests[1]
    assert len(proxy.requests) == 2
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 502 no\r\n\r\n", b""]
)
async def test_a_proxy_that_says_no_to_https_has_sent_nothing(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """A refused CONNECT, or one that breaks off, proves that no byte of the request left, and shows no key."""
    async with raw(says(answer)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with transport("https://api.invalid") as made:
            error = await error_of(made.submit(b"{}", "k"))
    assert not error.sent
    assert KEY.encode() not in b"".join(proxy.requests)


async def test_a_proxy_that_is_down_has_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where the proxy should be: certainly no byte left."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    async with transport("http://api.invalid") as made:
        assert not (await error_of(made.submit(b"{}", "k"))).sent


async def test_a_netrc_password_goes_to_no_clip_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a .netrc holds for all hosts is not shown to whoever serves the clips."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with origins() as (both, made):
        assert await fetched(made, f"{both.cdn}/clip.mp4") == b"clip"
    assert both.seen["cdn"] == [None]


async def test_a_clip_host_that_hangs_in_tls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download has no total timeout, but connecting has, TLS included."""

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(4)

    async with raw(silent, reads=False) as server, transport("http://127.0.0.1:1") as made:
        async with asyncio.timeout(3):
            with pytest.raises(TransportError):
                await fetched(made, server.url.replace("http:", "https:") + "/clip")


async def test_cookies_are_not_kept() -> None:
    """What a server sets as a cookie is not sent back: jobs do not depend on each other."""
    seen = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(text="{}", headers={"Set-Cookie": "session=1"})

    async with web_server(handler) as url, transport(url) as made:
        await made.check("a")
        await made.check("b")
    assert seen == [None, None]


async def test_an_image_is_uploaded_as_a_form(tmp_path: Path) -> None:
    """The picture goes as multipart field `file` with its name, and the key goes along."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG" + bytes(range(256)) * 100)
    got: dict[str, Any] = {}

    async def handler(request: web.BaseRequest) -> web.Response:
        async for part in await request.multipart():
            got.update(name=part.name, filename=part.filename, content=bytes(await part.read()))  # type: ignore[union-attr]
        got["key"] = request.headers["Authorization"]
        return web.json_response({"url": "https://u.test/1"})

    async with web_server(handler) as url, transport(url) as made:
        assert parse_upload(await made.upload(picture)) == "https://u.test/1"
    assert got["content"] == picture.read_bytes()
    assert (got["name"], got["filename"], got["key"]) == ("file", picture.name, f"Bearer {KEY}")


async def test_an_upload_goes_piece_by_piece(tmp_path: Path) -> None:
    """Twenty megabytes are sent without twenty megabytes of memory."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG" + bytes(20_000_000))

    async def handler(request: web.BaseRequest) -> web.Response:
        size = sum([len(chunk) async for chunk in request.content.iter_chunked(65536)])
        return web.json_response({"url": f"https://u.test/{size}"})

    async with web_server(handler) as url, transport(url, Timeouts()) as made:
        await made.check("warm")
        tracemalloc.start()
        try:
            link = parse_upload(await made.upload(picture))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert int((link or "").rsplit("/", 1)[1]) > 20_000_000
    assert peak < 4_000_000


async def test_an_upload_can_be_cut_short(tmp_path: Path) -> None:
    """In the middle of its bytes; the connection is closed, the file too, and the next request is fine."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG" + bytes(20_000_000))
    came = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.json_response({})
        await request.content.readany()
        came.set()
        await asyncio.sleep(20)
        return web.json_response({})

    async with web_server(handler) as url, transport(url, Timeouts()) as made:
        uploading = asyncio.create_task(made.upload(picture))
        await came.wait()
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert (await made.check("a")).status == 200
        picture.unlink()


# Whose key it is


class Origins:
    """Two origins: the API's and a stranger's; each notes the Authorization headers that it saw."""

    def __init__(self) -> None:
        self.api = ""
        self.cdn = ""
        self.seen: dict[str, list[str | None]] = {"api": [], "cdn": []}

    def handler(self, name: str) -> Any:
        """Give what serves an origin: /to?<url> redirects, anything else is a clip."""

        async def handle(request: web.BaseRequest) -> web.Response:
            self.seen[name].append(request.headers.get("Authorization"))
            if request.path.startswith("/to"):
                return web.Response(status=int(request.path[4:] or 302), headers={"Location": request.query_string})
            return web.Response(body=b"clip")

        return handle


@asynccontextmanager
async def origins() -> AsyncIterator[tuple[Origins, HttpTransport]]:
    """Open both, and a transport for the first."""
    both = Origins()
    servers = web_server(both.handler("api")), web_server(both.handler("cdn"))
    async with servers[0] as both.api, servers[1] as both.cdn, transport(both.api) as made:
        yield both, made


async def fetched(made: HttpTransport, url: str) -> bytes:
    """Give the body of a link."""
    async with made.stream(url, {"Accept-Encoding": "identity"}) as transfer:
        return b"".join([chunk async for chunk in transfer.chunks()])


async def test_the_key_goes_to_its_own_origin_and_nowhere_else() -> None:
    """A link on the API's own origin gets the key, a link on any other port or host does not."""
    async with origins() as (both, made):
        assert await fetched(made, f"{both.api}/clip.mp4") == b"clip"
        assert await fetched(made, f"{both.cdn}/clip.mp4") == b"clip"
        assert await fetched(made, f"{both.api.replace('127.0.0.1', 'localhost')}/clip.mp4") == b"clip"
    assert both.seen == {"api": [f"Bearer {KEY}", None], "cdn": [None]}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_is_decided_anew_at_each_redirect(status: int) -> None:
    """From the API to a stranger the key stays behind; from a stranger to the API it comes along."""
    async with origins() as (both, made):
        assert await fetched(made, f"{both.api}/to/{status}?{both.cdn}/clip") == b"clip"
        assert both.seen == {"api": [f"Bearer {KEY}"], "cdn": [None]}
        assert await fetched(made, f"{both.cdn}/to/{status}?{both.api}/to/{status}?{both.cdn}/clip") == b"clip"
        assert both.seen["cdn"] == [None] * 3


async def test_relative_redirects_are_followed_and_endless_ones_are_not() -> None:
    """A relative Location is joined; a circle ends with an error."""
    async with origins() as (both, made):
        assert await fetched(made, f"{both.cdn}/to/302?/clip") == b"clip"

    async def circle(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": request.path + "x"})

    async with web_server(circle) as url, transport(url) as made:
        with pytest.raises(TransportError, match="redirect"):
            await fetched(made, f"{url}/")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,hi", "javascript:1", "//", "http://", "x y"]
)
async def test_only_http_is_fetched_also_by_redirect(target: str) -> None:
    """No other scheme, neither as a link nor as a redirect."""
    async with origins() as (both, made):
        with pytest.raises(TransportError):
            await fetched(made, target)
        if ":" in target and "http" not in target:
            with pytest.raises(TransportError):
                await fetched(made, f"{both.cdn}/to/302?{target}")


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a certificate for localhost with the system's openssl."""
    import subprocess

    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


async def test_never_from_https_down_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from https to http is refused; https to https is followed; an unknown certificate is not trusted."""
    try:
        context, cert = certificate(tmp_path)
    except (OSError, ValueError) as error:
        pytest.skip(f"no openssl here: {error}")
    both = Origins()
    async with web_server(both.handler("cdn")) as plain, web_server(both.handler("api"), context) as secure:
        async with transport(secure) as made:
            assert not (await error_of(made.submit(b"{}", "k"))).sent
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        import aiohttp.connector

        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context(cafile=str(cert)))
        async with transport(secure) as made:
            assert await fetched(made, f"{secure}/to/302?{secure}/clip") == b"clip"
            with pytest.raises(TransportError, match="https"):
                await fetched(made, f"{secure}/to/302?{plain}/clip")
    assert both.seen["cdn"] == []


async def test_a_signed_link_arrives_as_it_was_given() -> None:
    """Characters of a signature are not encoded anew, nor decoded."""
    target = "/f/a%2Fb%20c+d.mp4?sig=a%2Bb%2F%3D&e=%7E~!$'()*,;:@&x=%e3%81%82"
    async with raw(says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nclip")) as server, transport(server.url) as made:
        assert await fetched(made, server.url + target) == b"clip"
    assert server.requests[0].split(b" ")[1].decode() == target


async def test_the_signature_of_a_link_is_in_no_message() -> None:
    """The query of a link may open it for anybody, so no error shows it."""
    for url in (f"http://127.0.0.1:{closed_port()}/c?sig=topsecret", "ftp://x/c?sig=topsecret"):
        async with transport("http://127.0.0.1:1") as made:
            with pytest.raises(TransportError) as caught:
                await fetched(made, url)
            assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "echo",
    [
        lambda key: web.json_response({"error": {"message": f"invalid API key {key}", "type": key}}, status=401),
        lambda key: web.Response(text=key, status=500),
        lambda key: web.Response(text="no", status=400, headers={"X-Oneapi-Request-Id": key}),
        lambda key: web.Response(text="no", status=400, reason=f"bad {key}"),
        lambda key: web.json_response({"error": {"message": f"Authorization: Bearer {key}"}}, status=403),
        lambda key: web.Response(
            body=json.dumps({"error": {"message": key}}).replace("sk-", "sk\\u002d").encode(), status=400
        ),
    ],
    ids=["json", "text", "header", "reason", "bearer", "escaped"],
)
async def test_the_key_is_in_nothing_even_if_the_server_echoes_it(
    echo: Callable[[str], web.Response], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that quotes the key in its answer does not get it into an error, its attributes, pickle or the log."""
    caplog.set_level(logging.DEBUG)

    async def handler(request: web.BaseRequest) -> web.Response:
        return echo(request.headers["Authorization"].removeprefix("Bearer "))

    hurry = Retry(timeout=0.3, wait_initial=0.1, wait_max=0.2)
    async with (
        web_server(handler) as url,
        OmniClient(KEY, base_url=url, output_dir=tmp_path, ledger=None, retry=hurry) as client,
    ):
        job = client.submit("p")
        for work in (lambda: job, client.balance, lambda: client.task("t")):
            with pytest.raises(OmniError) as caught:
                await work()
            assert KEY not in everything_said(caught.value)
        assert KEY not in f"{client!r} {job!r} {client.stop_error!r} {client._transport!r} {vars(client._transport)!r}"
    ours = [record for record in caplog.records if record.name.startswith("omni_async")]
    assert not [record for record in ours if KEY in record.getMessage() or KEY in str(record.exc_text)]


def test_the_secret_shows_itself_to_nobody() -> None:
    """Neither repr, str, format, pickle nor vars shows the key."""
    secret = Secret(KEY)
    assert KEY not in f"{secret!r} {secret} {secret!s} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises((TypeError, copy.Error)):
        copy.deepcopy(secret)
    assert secret.reveal() == KEY


async def test_many_requests_at_once_share_one_session() -> None:
    """Three hundred requests at once all come back, and closing leaves no connection open."""

    async def handler(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(text=request.path)

    async with web_server(handler) as url, transport(url, Timeouts()) as made:
        replies = await asyncio.gather(*(made.check(f"t{number}") for number in range(300)))
        assert [reply.body.decode() for reply in replies] == [f"/v1/tasks/t{number}" for number in range(300)]


async def test_closing_twice_or_unused_is_fine() -> None:
    """A transport that was never used, or is closed already, can be closed."""
    made: Transport = HttpTransport("http://127.0.0.1:1", KEY)
    await made.aclose()
    await made.aclose()
