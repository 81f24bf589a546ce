"""A connector of aiohttp that tidies the heads of responses, and keeps the bytes of a response as they arrive.

aiohttp closes a connection as soon as a head is not quite HTTP, before the body has arrived. So `reading.tidy_head`
corrects the head first. When a response breaks off, or is still not valid HTTP, aiohttp raises an error and drops what
it has. But these bytes may report that a paid task was accepted. So they are recorded, for `reading.read_response`.
"""

from __future__ import annotations

import select
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler

from .reading import MAX_RESPONSE_BYTES, tidy_head

if TYPE_CHECKING:
    import asyncio
    from contextvars import Token

_MAX_RECORDED = MAX_RESPONSE_BYTES + 1024 * 1024  # the largest body that is read, with its head and its framing


class Recording:
    """The bytes of the response to the one request that is made within it, as a context manager.

    `has_connection` becomes true when there is a connection, and the request is about to be written to it.
    """

    __slots__ = ("_pieces", "_size", "_token", "has_connection")

    def __init__(self) -> None:
        self.has_connection: bool = False
        self._pieces: list[bytes] = []
        self._size = 0

    def __enter__(self) -> Self:
        self._token: Token[Recording | None] = _current.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)

    def begin(self) -> None:
        """Begin, or begin again: what was recorded belongs to an earlier response, such as a proxy's to CONNECT."""
        self.has_connection = True
        self._pieces, self._size = [], 0

    def add(self, data: bytes) -> None:
        """Record bytes that have arrived."""
        if self._size <= _MAX_RECORDED:
            self._pieces.append(data)
            self._size += len(data)

    def content(self) -> bytes:
        """Return what has arrived."""
        return b"".join(self._pieces)


_current: ContextVar[Recording | None] = ContextVar("_current", default=None)


class RecordingConnector(aiohttp.TCPConnector):
    """A connector whose connections record the responses to requests that are made within a `Recording`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # aiohttp has no public way to give connections another protocol. If it were removed, responses would still be
        # read, but no longer recorded; a test would notice.
        make: type[ResponseHandler] = _RecordingProtocol
        self._factory = partial(make, loop=self._loop)


class _RecordingProtocol(ResponseHandler):
    """A connection of aiohttp that records what it receives."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._recording: Recording | None = None
        self._untidy: bytes | None = None  # the head of the response as far as it has arrived; None afterwards
        self._answer: Any = None  # the body of the response to the present request, once its head has arrived

    def is_connected(self) -> bool:
        """Return whether the next request may be sent on this idle connection; aiohttp asks before it uses one again.

        It may not if anything has arrived that a busy event loop has not read yet: bytes that would pass for the
        response to that request, or the end of the connection, after which it is unknown whether a submit was accepted.
        """
        return super().is_connected() and self.transport is not None and not _has_input(self.transport)

    def set_response_params(self, **settings: Any) -> None:
        """Prepare for the response to a new request; aiohttp calls this before it sends one."""
        self._answer = None
        self._recording = _current.get()
        self._untidy = b""
        if self._recording is not None:
            self._recording.begin()
        super().set_response_params(**settings)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Hand on the head of a response, with its body as a stream."""
        message, body = data
        if message.code >= 200:
            self._answer = body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Record bytes, and parse them."""
        if data and self._answer is not None and self._answer.is_eof():
            # The response was complete, so this was not requested. The next request on this connection would take
            # it for its own response.
            if self.transport is not None:
                self.transport.close()
            return
        if self._recording is not None:
            self._recording.add(bytes(data))
        if data and self._untidy is not None:
            self._untidy += bytes(data)
            tidy = tidy_head(self._untidy)
            if tidy is None:
                return
            data, self._untidy = tidy, None
        super().data_received(data)


def _has_input(transport: asyncio.Transport) -> bool:
    """Return whether bytes, the end or an error wait to be read from the socket of a connection."""
    descriptor = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
