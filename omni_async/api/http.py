"""`HttpTransport`: the `Transport` port over aiohttp. It is the only module of the library that sends HTTP requests.

The API key is sent to the API's own origin only. A server may quote the key in a body, in a header, or in a line that
is not HTTP, so the key is removed from every response and every error.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from ..errors import TransportError, TransportTimeout
from ..exhaustion import has_free_descriptor, is_out_of_resources, retry_while_out_of_resources
from .connection import Connection
from .parsing import Response
from .proxies import ProxyRefused, ProxyResolver
from .redirects import RedirectChain
from .urls import LinkRefused, parse_link

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from pathlib import Path
    from types import SimpleNamespace


class Secret:
    """A string that no repr, log or pickle shows. `reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret cannot be pickled or copied")

    def reveal(self) -> str:
        """Return the string."""
        return self._text


class SendWithheldError(aiohttp.ClientError):
    """The caller no longer wants a request to be sent, although its connection is ready."""


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
            raise SendWithheldError("it was withheld: it may not be sent any more")
        tracker.is_sent = True
        if tracker.on_sent is not None:
            tracker.on_sent()


# Bytes of a response of the API, after decompression. A status response has a few hundred. Chosen, not measured: the
# limit only keeps a server from filling the memory, and a larger response than this is not one of the API.
_MAX_RESPONSE_BYTES = 8 * 1024 * 1024

# Bytes that are read, or sent, at a time. Chosen, not measured: a smaller value means more wake-ups for each clip, a
# larger one more memory for each download and longer stretches without other work in the event loop.
_CHUNK_BYTES = 256 * 1024

_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, ValueError)

# Many servers close an idle connection after five seconds (Node.js by default). A submit that is sent while its
# connection is being closed is ambiguous, so connections are dropped before that. Double would meet such servers, half
# would open more connections than needed.
_KEEP_ALIVE_SECONDS = 4.0


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
        self._api_key = Secret(api_key)
        self._timeouts = timeouts or Timeouts()
        self._connection = connection or Connection()
        self._proxies = ProxyResolver(self._connection)
        self._session: aiohttp.ClientSession | None = None
        # Once the server has answered, a bad certificate or a refusing proxy is retried like an outage: the settings
        # are right then. Before that, the user must fix them, and the error is permanent.
        self._has_responded = False

    def __repr__(self) -> str:
        return f"<HttpTransport {self._base_url}>"

    def _open_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_track_sending)
        trace.on_request_chunk_sent.append(_track_sending)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, ttl_dns_cache=60, ssl=self._connection.ssl or True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "omni-async"},
            trace_configs=[trace],
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

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
        return await self._get(self._url_for("/v1/tasks/", task_id))

    async def get(self, path: str) -> Response:
        """GET another endpoint of the API."""
        return await self._get(self._url_for(path))

    async def _get(self, target: URL) -> Response:
        return await retry_while_out_of_resources(lambda: self._request("GET", target, self._timeouts.check))

    async def upload(self, path: Path) -> Response:
        """POST an image as a multipart form."""

        async def send() -> Response:
            with path.open("rb") as file:  # opening is fast; aiohttp reads the file in a thread
                form = aiohttp.FormData({"file": file}, quote_fields=False)
                return await self._request("POST", self._url_for("/v1/uploads/images"), self._timeouts.upload, form)

        return await retry_while_out_of_resources(send)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[HttpStreamingResponse]:
        """GET bytes from any http(s) URL, following redirects, but never from https to http."""
        failure: TransportError | None = None
        try:
            response = await retry_while_out_of_resources(lambda: self._get_following_redirects(url, dict(headers)))
        except _NETWORK_ERRORS as error:
            failure = self._to_transport_error(error, sent=True)
        if failure is not None:
            raise failure
        try:
            yield HttpStreamingResponse(response, self._to_transport_error)
        finally:
            response.close()

    async def _get_following_redirects(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        timeout = _client_timeout(None, self._timeouts.connect, self._timeouts.idle)
        chain = RedirectChain(parse_link(url), may_have_cookies=lambda link: not self._is_own_origin(link.url))
        while True:
            target = chain.link.url
            response = await self._client_session.get(
                target,
                headers=headers | chain.next_headers() | (self._api_headers() if self._is_own_origin(target) else {}),
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxies.proxy_for(target),
            )
            try:
                if response.status == 407:
                    raise self._proxies.refusal_error(target, response.status, response.reason or "")
                if not chain.follows(response):
                    return response
            except BaseException:
                response.close()
                raise
            response.close()

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
        tracker = tracker or SendTracker()
        # The error is raised outside the handler. Inside, aiohttp's own error would be its context, and that holds the
        # headers of the request with the API key.
        try:
            async with self._client_session.request(
                method,
                target,
                # aiohttp writes bytes in one piece, and a file in chunks. A local video makes a body of up to 27 MiB.
                data=BytesIO(body) if isinstance(body, bytes) and len(body) > _CHUNK_BYTES else body,
                headers={**(headers or {}), **self._api_headers()},
                timeout=_client_timeout(timeout, self._timeouts.connect),
                allow_redirects=False,
                proxy=self._proxies.proxy_for(target),
                trace_request_ctx=tracker,
            ) as response:
                return self._build_response(target, response, await _read_body(response))
        except _NETWORK_ERRORS as error:
            if not tracker.is_sent and is_out_of_resources(error):
                raise  # to `retry_while_out_of_resources`, which waits
            failure = self._to_transport_error(error, sent=tracker.is_sent)
        raise failure

    def _url_for(self, path: str, last: str = "") -> URL:
        """Return the URL of an endpoint. `last` is added percent-encoded as one path segment."""
        return URL(f"{self._base_url}{path}{quote(last, safe='')}", encoded=True)

    def _is_own_origin(self, target: URL) -> bool:
        """Return whether a URL is on the API's own origin, which gets the API key and the extra headers."""
        return target.origin() == self._base_url.origin()

    def _api_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key.reveal()}", **self._connection.extra_headers()}

    def _build_response(self, target: URL, response: aiohttp.ClientResponse, body: bytes) -> Response:
        """Return the response without the API key. Raise `ProxyRefused` if it is the proxy's own."""
        self._proxies.raise_if_refused(target, response.status, response.reason, body)
        self._has_responded = True
        headers = {name: self._redact(value) for name, value in _headers(response).items()}
        body = _unescape_json(body).replace(self._api_key.reveal().encode(), b"***")
        return Response(response.status, headers, body, base_url=str(self._base_url))

    def _to_transport_error(self, error: BaseException, *, sent: bool) -> TransportError:
        """Return an error of the library for one of aiohttp, without the headers of the request."""
        if isinstance(error, aiohttp.ClientHttpProxyError):
            error = self._proxies.refusal_error(error.request_info.real_url, error.status, error.message)
        if isinstance(error, (LinkRefused, aiohttp.InvalidURL)):
            return TransportError(self._redact(str(error)), sent=False, permanent=True)
        if isinstance(error, ProxyRefused):
            return TransportError(self._redact(str(error)), sent=False, permanent=not self._has_responded)
        if isinstance(error, aiohttp.ClientConnectorError):
            is_untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
            # Without a free descriptor, the authorities that would vouch for the certificate cannot be read.
            permanent = is_untrusted and not self._has_responded and has_free_descriptor()
            return TransportError(self._redact(_connection_error_message(error)), sent=False, permanent=permanent)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            sent = False
        cls = TransportTimeout if isinstance(error, asyncio.TimeoutError) else TransportError
        reason = self._redact(str(error)) or ("no complete response in time" if cls is TransportTimeout else "")
        name = type(error).__name__
        return cls(f"{reason} ({name})" if reason else name, sent=sent)

    def _redact(self, text: str) -> str:
        return text.replace(self._api_key.reveal(), "***")

    @property
    def _client_session(self) -> aiohttp.ClientSession:
        if self._session is None:  # opened late, because it belongs to the event loop that is running then
            self._session = self._open_session()
        return self._session


class HttpStreamingResponse:
    """A `StreamingResponse` over aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse, to_transport_error: Callable[..., TransportError]) -> None:
        self._response = response
        self._to_transport_error = to_transport_error
        self.status: int = response.status
        self.headers: dict[str, str] = _headers(response)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in chunks. Raise `TransportError` if the connection fails before its end."""
        failure: TransportError | None = None
        try:
            async for chunk in self._response.content.iter_chunked(_CHUNK_BYTES):
                yield chunk
        except _NETWORK_ERRORS as error:
            failure = self._to_transport_error(error, sent=True)
        if failure:
            raise failure


@cache
def _client_timeout(total: float | None, connect: float, idle: float | None = None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=total, sock_connect=connect if total is None else min(total, connect), sock_read=idle
    )


def _connection_error_message(error: aiohttp.ClientConnectorError) -> str:
    cause = getattr(error, "os_error", None) or error.__cause__  # os_error is missing for a certificate in aiohttp 3.11
    proxy = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "If you trust its certificate, use Connection(ssl=...), --ca-file or the variable SSL_CERT_FILE"
    else:
        remedy = "Check the network, the base URL and the proxy"
    return f"no connection to {proxy}{error.host}:{error.port}: {getattr(cause, 'strerror', None) or cause}. {remedy}"


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > _MAX_RESPONSE_BYTES:
            raise ValueError(f"a response of more than {_MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _unescape_json(body: bytes) -> bytes:
    """Return JSON without escapes, so that an API key in it is found; anything else unchanged."""
    if b"\\" not in body:
        return body
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return body
