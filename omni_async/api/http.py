"""`HttpTransport`: the `Transport` port over aiohttp. It is the only module of the library that sends HTTP requests.

The API key is sent to the API's own origin only, and in a chain of redirects not after it has left that origin. A
server may quote the key in a body, in a header, or in a line that is not HTTP. So the key is removed from every error,
and every response brings along what removes it from its text.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from ..errors import TransportError
from ..exhaustion import is_out_of_resources, retry_while_out_of_resources
from ..logs import get_logger
from ..models.reference_files import HEADER_BYTES, image_media_type
from ..plain_text import one_line
from .connection import Connection
from .link_guard import LinkGuard, open_socket
from .parsing import Response
from .proxies import ProxyResolver
from .reading import RawResponse, begins_like_http, read_response, unpack
from .recording import Recording, RecordingConnector
from .redaction import Redactor, Secret
from .redirects import RedirectChain
from .response_bodies import CHUNK_BYTES, HttpStreamingResponse, headers_of, read_body
from .transport_errors import NETWORK_ERRORS, ErrorTranslator, SendWithheldError
from .urls import Link, host_of, parse_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path
    from types import SimpleNamespace

_log = get_logger(__name__)


@dataclass(slots=True)
class SendTracker:
    """Whether a byte of a request was written to its connection, and what to ask and call directly before the first."""

    on_sent: Callable[[], object] | None = None
    may_send: Callable[[], bool] | None = None
    is_sent: bool = False


async def _track_sending(session: object, context: SimpleNamespace, params: object) -> None:
    """Record that a request is sent, in the `SendTracker` of its context; aiohttp calls it before each write."""
    tracker: SendTracker | None = context.trace_request_ctx
    if tracker is not None and not tracker.is_sent:
        if tracker.may_send is not None and not tracker.may_send():
            raise SendWithheldError("the submit was withheld: this process may no longer submit")
        tracker.is_sent = True
        if tracker.on_sent is not None:
            tracker.on_sent()


# Bytes of the status line and of each header of a response. aiohttp's own limit is 8 KiB, which cookies and the headers
# of a content security policy may exceed. A response that is refused for its head may have accepted a paid task.
_MAX_HEADER_BYTES = 1024 * 1024

# Servers close idle connections after five seconds (Node.js, Uvicorn and Apache by default) or two (Gunicorn). A submit
# that is sent while its connection is being closed is ambiguous, so connections are dropped before that. At 4, half of
# the submits to a server with two seconds became `unknown` at 30 a minute; double would meet such servers where the
# latency is high, half would open more connections than needed.
_KEEP_ALIVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for the network, in seconds. The defaults were chosen, not measured.

    - ``connect``: for a connection, TLS included. A lost SYN is repeated after 1, 3, 7 and 15 s, so 20 allows for four.
    - ``submit``: for the response to a submit. It is long because giving up earlier makes the outcome ambiguous.
    - ``check``: for the response to any other call. It is short because checks are free and repeated.
    - ``upload``: for the upload of an image: 20 MiB at 70 KB/s.
    - ``idle``: for the next bytes of a clip. A download has no total limit, as long as bytes arrive.
    """

    connect: float = 20.0
    submit: float = 120.0
    check: float = 15.0
    upload: float = 300.0
    idle: float = 20.0


class HttpTransport:
    """The API over HTTP, with one aiohttp session. The session is opened by the first request."""

    def __init__(
        self, base_url: str, api_key: str, *, connection: Connection | None = None, timeouts: Timeouts | None = None
    ) -> None:
        self._base_url = URL(base_url.rstrip("/"))
        self._base, self._api_origin = str(self._base_url), self._base_url.origin()
        self._api_key = Secret(api_key)
        self._redact = Redactor(self._api_key)
        self._timeouts = timeouts or Timeouts()
        self._connection = connection or Connection()
        self._proxies = ProxyResolver(self._connection, self._redact)
        self._guard = LinkGuard(self._base_url.raw_host or "", allow_private=self._connection.allow_private_links)
        self._has_warned = False
        self._extra_headers = {"Accept-Encoding": "gzip, deflate"} | self._connection.extra_headers()
        self._sessions: tuple[aiohttp.ClientSession, aiohttp.ClientSession] | None = None
        self._errors = ErrorTranslator(self._redact)

    def __repr__(self) -> str:
        return f"<HttpTransport {self._base_url}>"

    def _open_sessions(self) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:
        """Return a session for submits, whose sending is tracked, and one for all else, with the same connections.

        For a tracked request aiohttp makes and awaits several objects more, and nothing but a submit needs that.
        """
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_track_sending)
        trace.on_request_chunk_sent.append(_track_sending)
        connector = RecordingConnector(
            limit=0,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            ttl_dns_cache=60,
            ssl=self._connection.ssl or True,
            socket_factory=open_socket,
        )
        settings: dict[str, Any] = {
            "connector": connector,
            "cookie_jar": aiohttp.DummyCookieJar(),
            "headers": {"User-Agent": "omni-async"},
            "max_line_size": _MAX_HEADER_BYTES,
            "max_field_size": _MAX_HEADER_BYTES,
        }
        tracked = aiohttp.ClientSession(**settings, trace_configs=[trace], connector_owner=False)
        return tracked, aiohttp.ClientSession(**settings)

    async def aclose(self) -> None:
        """Close every connection."""
        for session in self._sessions or ():
            await session.close()

    async def submit(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """POST a request for a new task, as `Transport.submit` describes."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        target, timeout = self._url_for("/v1/videos/generations"), self._timeouts.submit
        return await retry_while_out_of_resources(
            lambda: self._request("POST", target, timeout, body, headers, tracker=SendTracker(on_sent, may_send))
        )

    async def check(self, task_id: str) -> Response:
        """GET the status of a task."""
        target, language = self._url_for("/v1/tasks/", task_id), self._connection.language
        return await self._get(target if language is None else target.with_query(language=language))

    async def get(self, path: str) -> Response:
        """GET another endpoint of the API."""
        return await self._get(self._url_for(path))

    async def _get(self, target: URL) -> Response:
        return await retry_while_out_of_resources(lambda: self._request("GET", target, self._timeouts.check))

    async def upload(self, path: Path) -> Response:
        """POST an image as a multipart form."""

        async def send() -> Response:
            # Opening is fast; aiohttp reads the file in a thread. Opened again by its descriptor it has no name, which
            # aiohttp would put into a header as it is.
            with path.open("rb") as opened, open(opened.fileno(), "rb", closefd=False) as file:  # noqa: ASYNC230
                media_type = image_media_type(file.peek(HEADER_BYTES)) or "application/octet-stream"
                form = aiohttp.FormData(quote_fields=False)
                form.add_field("file", file, filename=_form_file_name(path.name), content_type=media_type)
                return await self._request("POST", self._url_for("/v1/uploads/images"), self._timeouts.upload, form)

        return await retry_while_out_of_resources(send)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[HttpStreamingResponse]:
        """GET bytes from an http(s) URL, following redirects, but never from https to http or to a private address."""
        failure: TransportError | None = None
        try:
            response = await retry_while_out_of_resources(lambda: self._get_following_redirects(url, dict(headers)))
        except NETWORK_ERRORS as error:
            failure = self._errors.translate(error, sent=True)
        if failure is not None:
            raise failure
        try:
            yield HttpStreamingResponse(response, self._errors)
        finally:
            response.close()

    async def _get_following_redirects(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        chain = RedirectChain(parse_link(url), self._api_origin)
        self._warn_of_plain_http(chain.link)
        while True:
            target = chain.link.url
            more_headers = chain.next_headers() | (self._api_headers() if chain.may_have_key else {})
            response = await self._get_link(target, headers | more_headers)
            try:
                self._proxies.raise_if_refused(target, response.status, headers_of(response), None)
                if not chain.follows(response):
                    return response
            except BaseException:
                response.close()
                raise
            response.close()

    async def _get_link(self, target: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        proxy = self._proxies.proxy_for(target)
        try:
            return await self._guard.send(
                target,
                lambda: self._session(is_tracked=False).get(
                    target,
                    headers=headers,
                    timeout=_client_timeout(None, self._timeouts.connect, self._timeouts.idle),
                    allow_redirects=False,
                    auto_decompress=False,  # no compression is asked for; a clip may be wrongly labelled as compressed
                    proxy=proxy,
                ),
                is_proxied=proxy is not None,
            )
        except aiohttp.ClientHttpProxyError as error:  # it names only the proxy
            raise self._proxies.refusal_error(target, error.status) from None

    def _warn_of_plain_http(self, link: Link) -> None:
        """Warn once if the API is asked over https and names a clip over http."""
        if link.scheme == "http" and self._base_url.scheme == "https" and not self._has_warned:
            self._has_warned = True
            text = "a link to a clip at %s is plain http: anyone on the network path can read the clip, or replace it"
            _log.warning(text, one_line(host_of(link), limit=100))

    async def _request(
        self,
        method: str,
        target: URL,
        timeout: float,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        tracker: SendTracker | None = None,
    ) -> Response:
        """Send one request to the API's own origin and read its complete response.

        Raise `TransportError`, or the error of a shortage of this machine if it kept the request from being sent.
        """
        # Errors are raised outside the handlers. Inside, aiohttp's own error would be their context, and that holds the
        # headers of the request with the API key.
        with Recording() as recording:
            try:
                async with self._session(is_tracked=tracker is not None).request(
                    method,
                    target,
                    # aiohttp writes bytes in one piece, and a file in chunks. A local video makes a body of 27 MiB.
                    data=BytesIO(body) if isinstance(body, bytes) and len(body) > CHUNK_BYTES else body,
                    headers={**(headers or {}), **self._api_headers()},
                    timeout=_client_timeout(timeout, self._timeouts.connect),
                    allow_redirects=False,
                    auto_decompress=False,  # `unpack` does it: aiohttp drops a body that is not what its label says
                    proxy=self._proxies.proxy_for(target),
                    trace_request_ctx=tracker,
                ) as response:
                    content, problem = await read_body(response)
                    raw = RawResponse(response.status, headers_of(response), content, is_complete=not problem)
                return self._build_response(target, raw, problem)
            except NETWORK_ERRORS as error:
                is_sent = recording.has_connection if tracker is None else tracker.is_sent
                if not is_sent and is_out_of_resources(error):
                    raise  # to `retry_while_out_of_resources`, which waits
                if isinstance(error, aiohttp.ClientHttpProxyError):  # it names only the proxy
                    error = self._proxies.refusal_error(target, error.status)
                failure = self._errors.translate(error, sent=is_sent)
        return self._read_recording(target, recording, failure)

    def _read_recording(self, target: URL, recording: Recording, failure: TransportError) -> Response:
        """Return the response that arrived before a failure. Raise the failure if nothing of it says anything."""
        content = recording.content() if failure.sent else b""
        if not failure.responded and not begins_like_http(content):
            failure = TransportError(f"the response is not valid HTTP: {failure}", responded=True)
        raw = read_response(content)
        # The head of a refusal says what the server wants; that of a 2xx says nothing without its body.
        if raw is None or not (raw.body or raw.status >= 300):
            raise failure
        try:
            return self._build_response(target, raw, "" if raw.is_complete else str(failure))
        except NETWORK_ERRORS as error:
            failure = self._errors.translate(error, sent=True)
        raise failure

    def _url_for(self, path: str, last: str = "") -> URL:
        """Return the URL of an endpoint. `last` is added percent-encoded as one path segment."""
        return URL(f"{self._base}{path}{quote(last, safe='')}", encoded=True)

    def _api_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key.reveal()}", **self._extra_headers}

    def _build_response(self, target: URL, raw: RawResponse, cut_short: str) -> Response:
        """Return the response to a request. Raise `ProxyRefused` if it is the proxy's own."""
        body, problem = unpack(raw.body, raw.headers.get("content-encoding", ""))
        self._proxies.raise_if_refused(target, raw.status, raw.headers, body)
        self._errors.server_has_responded = True
        return Response(raw.status, raw.headers, body, self._redact(cut_short or problem), self._base, self._redact)

    def _session(self, *, is_tracked: bool) -> aiohttp.ClientSession:
        if self._sessions is None:  # opened late, because they belong to the event loop that is running then
            self._sessions = self._open_sessions()
        tracked, untracked = self._sessions
        return tracked if is_tracked else untracked


def _form_file_name(name: str) -> str:
    """Return the name of a file for the header of its part of a form, which has no room for control characters."""
    return "".join(char if char.isprintable() else "_" for char in name)


@cache
def _client_timeout(total: float | None, connect: float, idle: float | None = None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=total, sock_connect=connect if total is None else min(total, connect), sock_read=idle
    )
