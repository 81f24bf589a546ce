"""An HTTP server that many connections can slow down, but that never takes the file descriptors of the run beside it.

`BoundedServer` is behind the live page and `OmniClient.serve_webhook`. The sandbox has servers of its own, which accept
and refuse connections in the same way.

Theory of operation. Connections are accepted here one at a time, not by asyncio's own server: that one accepts a whole
backlog at once, and logs a traceback for each attempt once the process has no file descriptor left. The number of open
connections has a ceiling. At the ceiling, the connection that has waited longest for a request is closed in favour of
the new one. If all are being answered, or have just begun, the new one gets 503. A request must arrive within seconds,
and what is not HTTP is answered 400 and closed, without a log entry above DEBUG.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .exhaustion import is_out_of_resources, open_files_limit
from .logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = get_logger(__name__)

# Connections that may be open. A browser opens up to seven (six, and the events), so 64 are nine browsers that all load
# at the same time. At half, a busy team meets 503; at double, a crowd costs twice the memory (about 0.1 MB each).
_MAX_CONNECTIONS = 64
# The share of the process's file descriptors that connections may take. Each may also have a clip open, so an eighth
# means a quarter at most; the rest is for the run. At half, the page is small on a system with few descriptors; at
# double, it may take half of them.
_DESCRIPTOR_SHARE = 8
# Seconds in which a request must arrive: from the beginning of a connection, and after each response. A browser takes
# milliseconds, over a bad line a second or two. At half, such lines fail; at double, half-sent requests stay longer.
_REQUEST_TIMEOUT = 10.0
# Seconds of them in which a connection is not closed in favour of others, so that a crowd cannot cut off a browser that
# is about to send its request. At half, a slow one may be cut off; at double, a crowd keeps others out for longer.
_UNDISTURBED = 1.0
# Seconds for the body of a request, which nothing here reads, to be skipped before the connection is closed.
_LINGERING_TIME = 1.0
# Refused connections that wait for their request before they are closed, and for how many seconds. A connection that is
# closed with an unread request may lose its 503. More, or longer, would give a crowd more descriptors.
_MAX_REFUSALS = 8
_REFUSAL_TIME = 1.0
# Seconds between two attempts to accept while there is no file descriptor. At half, more attempts for nothing; at
# double, a browser waits longer than it must.
_ACCEPT_INTERVAL = 1.0
# Connections that are accepted before other asyncio tasks get a turn. At half, a burst of a thousand takes longer to
# accept; at double, it holds up the event loop for twice as long (about 1 ms).
_ACCEPTED_IN_A_ROW = 16
# Connections that the system holds before they are accepted. Chosen, not measured.
_BACKLOG = 64

RETRY_AFTER = 5  # seconds; told with each 503
_REFUSAL_TEXT = "too many connections are open\n"
_REFUSAL = (
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nContent-Type: {}\r\n"
    "Content-Length: {}\r\nConnection: close\r\n\r\n{}"
)


async def _next_connection(listener: socket.socket) -> socket.socket:
    """Return the next connection. Raise `OSError`. Cancelling this loses none, as cancelling `loop.sock_accept` may."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        return (await loop.sock_accept(listener))[0]
    while True:
        with suppress(BlockingIOError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            return connection
        readable = asyncio.Event()
        loop.add_reader(listener, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(listener)


def max_connections(most: int = _MAX_CONNECTIONS, share: int = _DESCRIPTOR_SHARE) -> int:
    """Return how many connections a server may have, given the number of files that this process may open.

    These are `most`, and not more than one in `share` of those files.
    """
    limit = open_files_limit()
    return most if limit is None else max(2, min(most, limit // share))


class _Connection(web.RequestHandler):
    """A connection whose malformed requests are answered without a traceback."""

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log in one line what aiohttp would log as an error of this program."""
        _log.debug("a connection has failed: %s: %r", args[0] if args else "", kw.get("exc_info"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that is not HTTP, or that broke off."""
        _log.debug("request from %s refused with %d: %s", request.remote, status, type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun already")
        response = web.Response(status=status, text="this is not a request that a browser would send\n")
        response.force_close()
        return response


class BoundedServer(web.Server):
    """Answers HTTP requests with `handler`, on a limited number of connections."""

    def __init__(self, handler: Handler) -> None:
        options: dict[str, Any] = {"access_log": None, "lingering_time": _LINGERING_TIME}
        # With `handler_cancellation`, a response ends with its connection, and its place is free immediately.
        super().__init__(handler, handler_cancellation=True, **options)
        self._options = options
        self._limit = max_connections()
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        # Those without a request, the longest-waiting first, and the timer that closes each.
        self._waiting: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._refusals = Refusals()
        self._acceptor = Acceptor(self._accept)

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        super().connection_made(handler, transport)
        self._open[handler] = transport
        self._wait_for_request(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Stop counting it."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)
        self._stop_waiting(handler)

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Keep the connection of a request open until its response is sent."""
        self._stop_waiting(request.protocol)
        try:
            yield
        finally:
            if request.protocol in self._open:
                self._wait_for_request(request.protocol)

    async def listen(self, host: str, port: int) -> int:
        """Listen on every address of `host`; return the port. Raise `OSError` if one is not available."""
        return (await self._acceptor.listen(host, port))[1]

    async def aclose(self, timeout: float) -> None:
        """Close every connection. Responses in progress get `timeout` seconds to end."""
        await self._acceptor.aclose()
        await self._refusals.aclose()
        self.pre_shutdown()
        await self.shutdown(timeout)

    async def _accept(self, connection: socket.socket) -> None:
        if len(self._open) < self._limit or self._close_longest_waiting():
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(self, connection)
        else:
            self._refusals.add(connection)

    def _wait_for_request(self, handler: web.RequestHandler) -> None:
        timer = asyncio.get_running_loop().call_later(_REQUEST_TIMEOUT, self._open[handler].abort)
        self._waiting[handler] = timer

    def _stop_waiting(self, handler: web.RequestHandler) -> None:
        if (timer := self._waiting.pop(handler, None)) is not None:
            timer.cancel()

    def _close_longest_waiting(self) -> bool:
        """Close the connection that has waited longest for a request. Return False if none has waited long enough."""
        handler, timer = next(iter(self._waiting.items()), (None, None))
        if handler is None or timer is None:
            return False
        if timer.when() - asyncio.get_running_loop().time() > _REQUEST_TIMEOUT - _UNDISTURBED:
            return False
        transport = self._open.pop(handler)
        self._stop_waiting(handler)
        transport.abort()
        return True


class Acceptor:
    """Listens on addresses, and passes one connection after the other to `accept`, which should return soon."""

    def __init__(self, accept: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._accept = accept
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    async def listen(self, host: str, port: int, *, backlog: int = _BACKLOG) -> tuple[str, int]:
        """Listen on every address of `host`; return the first one. Raise `OSError` if one is not available.

        The system holds up to `backlog` connections until they are accepted.
        """
        found = await _look_up(host, port)
        listeners: list[socket.socket] = []
        try:
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
                # The first one may have chosen the port.
                chosen = (address[0], listeners[0].getsockname()[1] if listeners else port, *address[2:])
                listeners.append(_bound(family, chosen, backlog))
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        self._listeners += listeners
        self._accepting += [asyncio.create_task(self._accept_each(listener)) for listener in listeners]
        first, chosen_port, *_ = listeners[0].getsockname()
        return str(first), int(chosen_port)

    async def aclose(self) -> None:
        """Accept no connection from now on."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _accept_each(self, listener: socket.socket) -> None:
        accepted = 0
        while True:
            try:
                connection = await _next_connection(listener)
            except OSError as error:
                # Without a descriptor, the system would report the same connection again and again.
                _log.debug("a connection could not be accepted: %s", error)
                await asyncio.sleep(_ACCEPT_INTERVAL if is_out_of_resources(error) else 0)
                continue
            await self._accept(connection)
            accepted += 1
            if accepted % _ACCEPTED_IN_A_ROW == 0:
                await asyncio.sleep(0)


class Refusals:
    """Connections that are answered 503, with a time to try again in seconds, and closed. `text` is the body."""

    def __init__(
        self, retry_after: int = RETRY_AFTER, text: str = _REFUSAL_TEXT, content_type: str = "text/plain"
    ) -> None:
        self._response = _REFUSAL.format(retry_after, content_type, len(text), text).encode()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, connection: socket.socket) -> None:
        """Answer 503 to a connection and close it."""
        if len(self._tasks) >= _MAX_REFUSALS:
            with connection, suppress(OSError):
                connection.send(self._response)
            return
        task = asyncio.create_task(_refuse_request(connection, self._response))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: connection.close())  # also if it is cancelled before it begins

    async def aclose(self) -> None:
        """Close them all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse_request(connection: socket.socket, response: bytes) -> None:
    """Wait a moment for the request, so that the answer is not lost."""
    with connection, suppress(OSError, TimeoutError):
        connection.setblocking(False)
        async with asyncio.timeout(_REFUSAL_TIME):
            await asyncio.get_running_loop().sock_recv(connection, 1 << 16)
        connection.send(response)
        connection.shutdown(socket.SHUT_WR)


async def _look_up(host: str, port: int) -> list[Any]:
    """Return what `getaddrinfo` says of an address to listen on. A thread is used only for names."""
    flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
    with suppress(socket.gaierror):
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def _bound(family: int, address: tuple[Any, ...], backlog: int) -> socket.socket:
    """Return a socket that listens on an address."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would allow two processes on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen at {address[0]}, port {address[1]}: {error.strerror}") from None
    return listener
