"""Read the headers and bodies of responses from aiohttp: all at once for the API, in chunks for clips.

Used by `HttpTransport`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .json_bodies import whole_object
from .reading import MAX_RESPONSE_BYTES, TOO_LONG
from .transport_errors import NETWORK_ERRORS, ErrorTranslator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import aiohttp

    from ..errors import TransportError

# Seconds to wait for the announced rest of a body that already is a whole JSON object. Half might end a chunked
# response before its last chunk, double would keep each job waiting longer for a server that announces too much.
_REST_WAIT = 1.0

# Bytes that are read, or sent, at a time. Chosen, not measured: a smaller value means more wake-ups for each clip, a
# larger one more memory for each download and longer stretches without other work in the event loop.
CHUNK_BYTES = 256 * 1024


def headers_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the headers of a response, with names in lower case."""
    return {name.lower(): value for name, value in response.headers.items()}


async def read_body(response: aiohttp.ClientResponse) -> tuple[bytes, str]:
    """Return the body of a response, and why it is not complete; "" if it is."""
    body = bytearray()
    seconds = None
    while True:
        chunk = await _next_chunk(response.content, seconds)
        if chunk == b"":
            return bytes(body), ""
        if chunk is None and whole_object(bytes(body)) is not None:
            return bytes(body), "the rest that it announces did not come"
        body += chunk or b""
        if len(body) > MAX_RESPONSE_BYTES:
            return bytes(body[:MAX_RESPONSE_BYTES]), TOO_LONG
        # What has arrived may be a whole JSON object, with an end that never comes.
        may_be_whole = chunk and not response.content.at_eof() and body[-64:].rstrip().endswith(b"}")
        seconds = _REST_WAIT if may_be_whole else None


async def _next_chunk(stream: aiohttp.StreamReader, seconds: float | None) -> bytes | None:
    """Return the next bytes of a body, b"" at its end; None if none came within `seconds`."""
    if seconds is None:
        return await stream.readany()
    wait = asyncio.timeout(seconds)
    try:
        async with wait:
            return await stream.readany()
    except TimeoutError:
        if not wait.expired():
            raise
        return None


class HttpStreamingResponse:
    """A `StreamingResponse` over aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse, errors: ErrorTranslator) -> None:
        self._response = response
        self._errors = errors
        self.status: int = response.status
        self.headers: dict[str, str] = headers_of(response)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in chunks, as it came. Raise `TransportError` if the connection fails before its end."""
        failure: TransportError | None = None
        try:
            async for chunk in self._response.content.iter_chunked(CHUNK_BYTES):
                yield chunk
        except NETWORK_ERRORS as error:
            failure = self._errors.translate(error, sent=True)
        if failure:
            raise failure
