"""`HttpTransport`: the `Transport` port over aiohttp. The only module of the library that sends HTTP requests."""

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
from .connection import Connection
from .parsing import Response
from .proxies import ProxyRefused, ProxyResolver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from pathlib import Path
    from types import SimpleNamespace


class Secret:
    """A text that shows itself to nobody who does not ask by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a secret is not pickled")

    def reveal(self) -> str:
        """Give the text."""
        return self._text


@dataclass(slots=True)
class SendTracker:
    """Whether any byte of a request has left, and who is to hear of it."""

    listener: Callable[[], object] | None = None
    is_sent: bool = False


async def _track_sending(session: object, context: SimpleNamespace, params: object) -> None:
    """Tell the `Departure` that is a request's context; called by aiohttp when it has sent something."""
    departure: SendTracker | None = context.trace_request_ctx
    if departure is not None and not departure.is_sent:
        departure.is_sent = True
        if departure.listener is not None:
            departure.listener()


_MAX_RESPONSE_BYTES = 8 * 1024 * 1024  # bytes; a reply about a task has a few hundred
_CHUNK_BYTES = 256 * 1024
_MAX_REDIRECTS = 10
_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, ValueError)
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})

# Many servers close an idle connection after five seconds. A POST sent into one that is just being closed has an
# unknown outcome, so ours are given up before that.
_KEEP_ALIVE_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds. A submit is waited for long: giving up early makes its outcome unknown."""

    connect: float = 20.0
    submit: float = 120.0
    check: float = 15.0
    upload: float = 300.0
    idle: float = 20.0  # between two pieces of a clip; there is no limit on the whole


class HttpTransport:
    """Talks to one API origin with one session and one connector."""

    def __init__(
        self, base_url: str, api_key: str, *, connection: Connection | None = None, timeouts: Timeouts | None = None
    ) -> None:
        self._base_url = URL(base_url.rstrip("/"))
        self._api_key = Secret(api_key)
        self._timeouts = timeouts or Timeouts()
        self._connection = connection or Connection()
        self._proxies = ProxyResolver(self._connection)
        self._session: aiohttp.ClientSession | None = None
        self._has_responded = False  # what was in order once is mended by waiting, not by a person

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
        self, body: bytes, idempotency_key: str, *, on_sent: Callable[[], object] | None = None
    ) -> Response:
        """POST a request for a new task; what is known of whether it left is in the error's `sent`."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        target, departure = self._url_for("/v1/videos/generations"), SendTracker(on_sent)
        return await self._request("POST", target, self._timeouts.submit, body, headers, tracker=departure)

    async def check(self, task_id: str) -> Response:
        """GET how a task stands."""
        return await self._request("GET", self._url_for("/v1/tasks/", task_id), self._timeouts.check)

    async def get(self, path: str) -> Response:
        """GET another page of the API."""
        return await self._request("GET", self._url_for(path), self._timeouts.check)

    async def upload(self, path: Path) -> Response:
        """POST a picture as multipart form."""
        with path.open("rb") as file:  # opening is quick; aiohttp reads it in a thread
            form = aiohttp.FormData({"file": file}, quote_fields=False)
            return await self._request("POST", self._url_for("/v1/uploads/images"), self._timeouts.upload, form)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[HttpStreamingResponse]:
        """GET bytes from any http(s) host, following redirects, but never from https down to http."""
        answer, trouble = None, None
        try:
            answer = await self._get_following_redirects(_validate_url(url), dict(headers))
        except _NETWORK_ERRORS as error:
            trouble = self._to_transport_error(error, sent=True)
        if answer is None:
            raise trouble or TransportError(f"too many redirects from {_without_query(url)}")
        try:
            yield HttpStreamingResponse(answer, self._to_transport_error)
        finally:
            answer.close()

    async def _get_following_redirects(self, target: URL, headers: dict[str, str]) -> aiohttp.ClientResponse | None:
        timeout = _client_timeout(None, self._timeouts.connect, self._timeouts.idle)
        for _ in range(_MAX_REDIRECTS):
            answer = await self._client_session.get(
                target,
                headers=headers | self._headers_for(target),
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxies.proxy_for(target),
            )
            if answer.status == 407:
                answer.close()
                raise self._proxies.refusal_error(target, answer.status, answer.reason or "")
            location = answer.headers.get("Location") or answer.headers.get("URI")
            if answer.status not in _REDIRECT_STATUSES or not location:
                return answer
            answer.close()
            following = target.join(_parse_url(location))
            if target.scheme == "https" and following.scheme != "https":
                raise ValueError(f"{target.host} redirects from https to {following.scheme}, which is refused")
            target = _validate_url(str(following))
        return None

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
        """Make one request to the API's own origin and read the whole reply."""
        tracker = tracker or SendTracker()
        # The error is raised outside of the handler: aiohttp's own would carry the request's headers, key and all.
        try:
            async with self._client_session.request(
                method,
                target,
                data=BytesIO(body) if isinstance(body, bytes) and len(body) > _CHUNK_BYTES else body,  # piece by piece
                headers={**(headers or {}), **self._api_headers()},
                timeout=_client_timeout(timeout, self._timeouts.connect),
                allow_redirects=False,
                proxy=self._proxies.proxy_for(target),
                trace_request_ctx=tracker,
            ) as answer:
                return self._build_response(target, answer, await _read_body(answer))
        except _NETWORK_ERRORS as error:
            trouble = self._to_transport_error(error, sent=tracker.is_sent)
        raise trouble

    def _url_for(self, path: str, last: str = "") -> URL:
        """Give the address of a page; `last` is its last part, whatever characters it has."""
        return URL(f"{self._base_url}{path}{quote(last, safe='')}", encoded=True)

    def _headers_for(self, target: URL) -> dict[str, str]:
        """Give the header with the key, and those of the settings, to the API's own origin and nobody else."""
        return self._api_headers() if target.origin() == self._base_url.origin() else {}

    def _api_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key.reveal()}", **self._connection.extra_headers()}

    # What a server says may quote the key: in its body, its headers, even in a line that is no HTTP.

    def _build_response(self, target: URL, answer: aiohttp.ClientResponse, body: bytes) -> Response:
        self._proxies.raise_if_refused(target, answer.status, answer.reason, body)
        self._has_responded = True
        headers = {name: self._redact(value) for name, value in _headers(answer).items()}
        return Response(answer.status, headers, _unescape_json(body).replace(self._api_key.reveal().encode(), b"***"))

    def _to_transport_error(self, error: BaseException, *, sent: bool) -> TransportError:
        """Tell in our words, and without the request's headers, what went wrong."""
        if isinstance(error, aiohttp.ClientHttpProxyError):
            error = self._proxies.refusal_error(error.request_info.real_url, error.status, error.message)
        if isinstance(error, ProxyRefused):
            return TransportError(self._redact(str(error)), sent=False, permanent=not self._has_responded)
        if isinstance(error, aiohttp.ClientConnectorError):
            permanent = isinstance(error, aiohttp.ClientConnectorCertificateError) and not self._has_responded
            return TransportError(self._redact(_connection_error_message(error)), sent=False, permanent=permanent)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            sent = False
        kind = TransportTimeout if isinstance(error, asyncio.TimeoutError) else TransportError
        reason, name = self._redact(str(error)), type(error).__name__
        return kind(f"{reason} ({name})" if reason else name, sent=sent)

    def _redact(self, text: str) -> str:
        return text.replace(self._api_key.reveal(), "***")

    @property
    def _client_session(self) -> aiohttp.ClientSession:
        if self._session is None:  # made late, because it belongs to the loop that runs then
            self._session = self._open_session()
        return self._session


class HttpStreamingResponse:
    """The body of one answer, on its way."""

    def __init__(self, answer: aiohttp.ClientResponse, explain: Callable[..., TransportError]) -> None:
        self._answer = answer
        self._explain = explain
        self.status = answer.status
        self.headers = _headers(answer)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body piece by piece."""
        trouble: TransportError | None = None
        try:
            async for chunk in self._answer.content.iter_chunked(_CHUNK_BYTES):
                yield chunk
        except _NETWORK_ERRORS as error:
            trouble = self._explain(error, sent=True)
        if trouble:
            raise trouble


@cache
def _client_timeout(total: float | None, connect: float, idle: float | None = None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=total, sock_connect=connect if total is None else min(total, connect), sock_read=idle
    )


def _connection_error_message(error: aiohttp.ClientConnectorError) -> str:
    why = getattr(error, "os_error", None) or error.__cause__  # a bad certificate has none in aiohttp 3.11
    whom = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    advice = (
        "; if you trust its certificate, say so: Connection(ssl=...), --ca-file, or SSL_CERT_FILE in the environment"
        if isinstance(why, ssl.SSLCertVerificationError)
        else ""
    )
    return f"no connection to {whom}{error.host}:{error.port}: {getattr(why, 'strerror', None) or why}{advice}"


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_chunked(_CHUNK_BYTES):
        body += piece
        if len(body) > _MAX_RESPONSE_BYTES:
            raise ValueError(f"a reply of more than {_MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _validate_url(url: str) -> URL:
    target = _parse_url(url)
    if target.scheme not in {"http", "https"} or not target.host:
        raise ValueError(f"{_without_query(url)!r} is not an http(s) URL")
    return target


def _parse_url(url: str) -> URL:
    # A signed link must arrive as it was given; only one that is no proper URL is mended.
    return URL(url, encoded=url.isascii() and " " not in url)


def _without_query(url: str) -> str:
    """Shorten a link for messages: its query may hold a signature that opens it."""
    return url.partition("?")[0][:200]


def _unescape_json(body: bytes) -> bytes:
    """Write JSON without escapes, so that what is looked for in it is found."""
    if b"\\" not in body:
        return body
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return body
