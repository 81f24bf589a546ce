"""The `Transport` port: what the stages need of HTTP. `HttpTransport` implements it, as do the test servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from .parsing import Response


class StreamingResponse(Protocol):
    """The body of one answer, on its way: its head is here, its bytes come as they are asked for."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body piece by piece; raises `TransportError` where it breaks off."""


class Transport(Protocol):
    """Speaks HTTP. Every method raises `TransportError` where no usable answer came; no answer is an error here."""

    async def submit(
        self, body: bytes, idempotency_key: str, *, on_sent: Callable[[], object] | None = None
    ) -> Response:
        """Ask for a new task. Never resent, never redirected. `left` is called when it begins to leave."""

    async def check(self, task_id: str) -> Response:
        """Ask how a task stands."""

    async def get(self, path: str) -> Response:
        """Get any other page of the API, such as `/v1/balance`."""

    async def upload(self, path: Path) -> Response:
        """Upload a picture, piece by piece. Raises `OSError` for a file that cannot be opened."""

    def stream(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[StreamingResponse]:
        """Get bytes from any host; the API key goes along only to the API's own."""

    async def aclose(self) -> None:
        """Close every connection."""
