"""Pictures brought to the server: each distinct content once, at most a few at a time, tried again like a check.

Theory of operation. Whoever wants a picture there hashes it and asks the ledger for a link that lives long enough. If
there is none, the first who comes uploads it, in the asyncio task in which it asked, and all others with the same
content wait for the outcome. If the first is cut short, the next takes over: nothing runs that nobody waits for.
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


AT_ONCE = 3
_REMEMBERED = 4096  # contents of files
_LONGEST = 60.0  # seconds that a single question is repeated: somebody sits and waits


@dataclass(slots=True)
class _PendingUpload:
    """An upload that is on its way, for those who wait for the same picture."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Upload | SubmitResult | None = None  # none: whoever waits looks again


class ImageUploader:
    """Gives a link for each local picture."""

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
        self._slots = anyio.Semaphore(AT_ONCE)
        self._reading = anyio.Lock()  # one after the other: the second often finds what the first has read
        self._contents: dict[Path, FileContent] = {}
        self._pending: dict[str, _PendingUpload] = {}
        self._not_before = 0.0  # the server has asked everybody to wait until then

    async def upload_image(self, path: Path) -> str:
        """Give the link of a picture, as a single question. Raises `InvalidReference`, `APIError`, `TransportError`."""
        found = await self.ensure_uploaded(path, longest=_LONGEST)
        if isinstance(found, Upload):
            return found.url
        assert found.error is not None
        raise found.error.with_traceback(None)

    async def ensure_uploaded(self, path: Path, *, longest: float = float("inf")) -> Upload | SubmitResult:
        """Give the link of a picture, old or new, or what became of the last try to upload it.

        Raises `InvalidReference` for a file that cannot be sent, and `LedgerError`.
        """
        while True:
            content = await self.content(path, read_image)
            found: Upload | SubmitResult | None = await self._known(content.digest)
            if found is None and (coming := self._pending.get(content.digest)) is not None:
                await coming.done.wait()
                found = coming.outcome
            elif found is None:
                found = await self._upload_once(path, content, longest)
            if found is not None:
                return found

    async def content(self, path: Path, read: Callable[[Path], FileContent]) -> FileContent:
        """Give what a file holds, read anew only if it has changed. Raises `InvalidReference`."""
        async with self._reading:
            known = self._contents.get(path)
            if known is None or not await self._is_same(path, known):
                known = await anyio.to_thread.run_sync(read, path)
                if len(self._contents) >= _REMEMBERED:
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

    async def _upload_once(self, path: Path, content: FileContent, longest: float) -> Upload | SubmitResult | None:
        """Upload for all who wait; None if the file has changed meanwhile."""
        coming = self._pending[content.digest] = _PendingUpload()
        try:
            async with self._slots:
                coming.outcome = await self._upload_with_retries(path, content, longest)
            return coming.outcome
        finally:
            del self._pending[content.digest]
            coming.done.set()

    async def _upload_with_retries(
        self, path: Path, content: FileContent, longest: float
    ) -> Upload | SubmitResult | None:
        """Upload until it is there, or there is a clear no or no more time."""
        attempt, trouble_since = 0, float("inf")
        while True:
            await anyio.sleep(max(0.0, self._not_before - self._registry.clock.now()))
            began_at = self._registry.clock.wall()
            judgement = await self._send(path)
            if judgement.outcome is SubmitOutcome.ACCEPTED:
                if not await self._is_same(path, content):
                    return None  # who knows what was sent
                upload = Upload(judgement.url, began_at + UPLOAD_LIFETIME)
                await self._registry.store.save_upload(self._server, content.digest, upload)
                return upload
            pause = retry_delay(judgement.retry_after, attempt, self._retry, self._jitter())
            patience = min(longest, upload_retry_timeout(judgement.outcome, self._retry))
            trouble_since = min(trouble_since, self._registry.clock.now())  # a first try may take long by itself
            if self._registry.clock.now() + pause - trouble_since > patience:
                return judgement
            if judgement.outcome is SubmitOutcome.RETRY_LATER:
                self._not_before = max(self._not_before, self._registry.clock.now() + pause)
            attempt += 1
            await anyio.sleep(pause)

    async def _send(self, path: Path) -> SubmitResult:
        answer: Response | TransportError
        try:
            answer = await self._transport.upload(path)
        except TransportError as error:
            answer = error
        except OSError as error:
            raise InvalidReference(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from None
        return classify_upload(answer, now=self._registry.clock.wall(), operation=f"upload of {path}")
