"""The `Transport` port: what the client needs of HTTP. `HttpTransport` implements it, and so do the test servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from .parsing import Response


class StreamingResponse(Protocol):
    """A response whose status and headers have arrived, and whose body is read in chunks."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in chunks. Raise `TransportError` if the connection fails before its end."""


class Transport(Protocol):
    """The HTTP requests that the client makes.

    Every method returns the response whatever its status, and raises `TransportError` only if no usable response
    arrived. None of them retries.
    """

    async def submit(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """POST a request for a new task, without following redirects.

        `on_sent` is called once, directly before the first byte of the request is written to the connection. Whether
        that happened is also in `TransportError.sent`. `may_send` is called when the connection is ready, before
        `on_sent`. If it returns False, nothing is sent and `SubmitWithheld` is raised: a client that shares its account
        with others may have lost its turn while it was connecting.
        """

    async def check(self, task_id: str) -> Response:
        """GET the status of a task."""

    async def get(self, path: str) -> Response:
        """GET another endpoint of the API, such as `/v1/balance`."""

    async def upload(self, path: Path) -> Response:
        """Upload an image, reading the file in chunks. Raise `OSError` for a file that cannot be opened."""

    def stream(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[StreamingResponse]:
        """GET bytes from any http(s) URL, following redirects. Only the API's own origin receives the API key."""

    async def aclose(self) -> None:
        """Close every connection."""
