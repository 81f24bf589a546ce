"""`ImageUploader`: uploads images, each distinct content once, a few at a time, with retries.

Theory of operation. A job that needs an image hashes it and asks the store for a URL that stays valid long enough. If
there is none, the first job that asks uploads it, in its own asyncio task. All others with the same content wait for
the outcome. If the first one is cancelled, the next one takes over, so no upload runs for which nothing waits.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..api.outcomes import SubmitOutcome, SubmitResult, classify_upload, upload_retry_timeout
from ..errors import InvalidReference, TransportError
from ..exhaustion import retry_while_out_of_resources
from ..models.reference_files import UPLOAD_LIFETIME, Upload
from ..ratelimit.backoff import retry_delay
from .local_files import FileContent, read_image, signature_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..jobs.registry import JobRegistry
    from ..settings import Retry


# Uploads at the same time. They share the bandwidth with clips, and the API limits uploads per key without saying how.
# Chosen, not measured.
MAX_CONCURRENT = 3
# Hashes of files that are kept in memory, some 200 bytes each. Fewer means reading files again, more means memory.
_MAX_CONTENTS = 4096
# Seconds for which `OmniClient.upload_image` is retried: a person waits for it.
_MAX_RETRY_SECONDS = 60.0


@dataclass(slots=True)
class _PendingUpload:
    """An upload in progress, for those who wait for the same image."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Upload | SubmitResult | None = None  # None: it was cut short, and the waiters try again


class ImageUploader:
    """Returns a URL for each local image."""

    def __init__(
        self,
        transport: Transport,
        registry: JobRegistry,
        server: str,
        *,
        retry: Retry,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._server = server
        self._retry = retry
        self._jitter = jitter
        self._slots = anyio.Semaphore(MAX_CONCURRENT)
        self._reading = anyio.Lock()  # one at a time: the second often finds what the first has read
        self._contents: dict[Path, FileContent] = {}
        self._pending: dict[str, _PendingUpload] = {}
        self._not_before = 0.0  # loop time; the server asked to wait until then

    async def upload_image(self, path: Path) -> str:
        """Return the URL of an image, for a single request.

        Raise `InvalidReference`, `APIError` or `TransportError`.
        """
        found = await self.ensure_uploaded(path, max_seconds=_MAX_RETRY_SECONDS)
        if isinstance(found, Upload):
            return found.url
        assert found.error is not None
        raise found.error.with_traceback(None)

    async def ensure_uploaded(self, path: Path, *, max_seconds: float = float("inf")) -> Upload | SubmitResult:
        """Return the URL of an image, uploaded before or now, or the outcome of the last attempt.

        `max_seconds` limits the retries. Raise `InvalidReference` for a file that cannot be sent, or `LedgerError`.
        """
        while True:
            content = await self.content(path, read_image)
            found: Upload | SubmitResult | None = await self._known(content.digest)
            if found is None and (pending := self._pending.get(content.digest)) is not None:
                await pending.done.wait()
                found = pending.outcome
            elif found is None:
                found = await self._upload_once(path, content, max_seconds)
            if found is not None:
                return found

    async def content(self, path: Path, read: Callable[[Path], FileContent]) -> FileContent:
        """Return what a file contains, read again only if it has changed. Raise `InvalidReference`."""
        async with self._reading:
            known = self._contents.get(path)
            if known is None or not await self._is_same(path, known):
                known = await retry_while_out_of_resources(lambda: anyio.to_thread.run_sync(read, path))
                if len(self._contents) >= _MAX_CONTENTS:
                    self._contents.clear()
                self._contents[path] = known
            return known

    async def _is_same(self, path: Path, content: FileContent) -> bool:
        try:
            return await anyio.to_thread.run_sync(signature_of, path) == content.signature
        except OSError:
            return False

    async def _known(self, digest: str) -> Upload | None:
        upload = await self._registry.store.find_upload(self._server, digest)
        return upload if upload is not None and self._registry.clock.wall() < upload.usable_until else None

    async def _upload_once(self, path: Path, content: FileContent, max_seconds: float) -> Upload | SubmitResult | None:
        """Upload for all who wait. Return None if the file has changed meanwhile."""
        pending = self._pending[content.digest] = _PendingUpload()
        try:
            async with self._slots:
                pending.outcome = await self._upload_with_retries(path, content, max_seconds)
            return pending.outcome
        finally:
            del self._pending[content.digest]
            pending.done.set()

    async def _upload_with_retries(
        self, path: Path, content: FileContent, max_seconds: float
    ) -> Upload | SubmitResult | None:
        """Upload until it succeeds, is refused for good, or the retry timeout has passed."""
        attempt, failing_since = 0, float("inf")
        while True:
            await anyio.sleep(max(0.0, self._not_before - self._registry.clock.now()))
            began_at = self._registry.clock.wall()
            result = await self._send(path)
            if result.outcome is SubmitOutcome.ACCEPTED:
                if not await self._is_same(path, content):
                    return None  # what was sent may be a mixture of two versions
                upload = Upload(result.url, began_at + UPLOAD_LIFETIME)
                await self._registry.store.save_upload(self._server, content.digest, upload)
                return upload
            pause = retry_delay(result.retry_after, attempt, self._retry, self._jitter())
            timeout = min(max_seconds, upload_retry_timeout(result.outcome, self._retry))
            failing_since = min(
                failing_since, self._registry.clock.now()
            )  # from the end of the first attempt, which may itself take long
            if self._registry.clock.now() + pause - failing_since > timeout:
                return result
            if result.outcome is SubmitOutcome.RETRY_LATER:
                self._not_before = max(self._not_before, self._registry.clock.now() + pause)
            attempt += 1
            await anyio.sleep(pause)

    async def _send(self, path: Path) -> SubmitResult:
        response: Response | TransportError
        try:
            response = await self._transport.upload(path)
        except TransportError as error:
            response = error
        except OSError as error:
            raise InvalidReference(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from None
        return classify_upload(response, now=self._registry.clock.wall(), operation=f"upload of {path}")
