"""The `ClipStore` port: where clips are kept. `FolderClipStore`, the default, keeps them in a folder.

The download stage keeps clips in a clip store and nowhere else. To keep them elsewhere (an object store, a database),
implement `ClipStore` and `PartialClip` in one module, and pass an instance as ``OmniClient(clip_store=...)``.

Every method may raise `OSError` if a clip cannot be stored: the job is then `download_failed`, paid and resumable.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.to_thread

from ..exhaustion import retry_while_out_of_resources
from ..files import NameTaken
from ..jobs.clip_paths import clip_path
from .partfile import PartFile, is_complete, part_of, prepare_folder, take_clip

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


_T = TypeVar("_T")

# Bytes after which a clip that is still arriving is made durable, in a thread of its own. For a clip of 64 MB the sync
# at its end took a third of the whole time without it. Clips of less than this gain nothing and cost nothing.
_FLUSH_SIZE = 8 * 1024 * 1024

# Threads that write. Each write and each sync holds one, and none waits for the network.
MAX_THREADS = 16


class PartialClip(Protocol):
    """A clip that is being transferred into a store. Only `commit` makes it visible under its name."""

    async def open(self, offset: int) -> int:
        """Continue a clip of an earlier run: keep its first `offset` bytes. Return how many bytes are kept.

        That is `offset` or 0: 0 if the store has nothing of the clip, or less than `offset` bytes. Only bytes that
        `sync` has made durable are asked for. If `open` is not called, the clip begins empty.
        """

    async def append(self, data: bytes | bytearray) -> None:
        """Add bytes at the end."""

    async def sync(self) -> None:
        """Make the bytes so far durable, so that a later run can continue from them even after a power cut."""

    async def truncate(self) -> None:
        """Delete the bytes so far: the clip begins again."""

    async def commit(self, last: bytes | bytearray = b"") -> str | None:
        """Add the last bytes and verify the clip, then make it durable under its name, all of it or nothing.

        Return None, or why it is not a complete MP4 (`omni_async.downloads.mp4.find_defect`): then it stays partial.
        """

    async def keep_unverified(self) -> str | None:
        """Keep the bytes so far if they are a complete video, but not a plain MP4; the clip then begins empty.

        Called after `commit` has found a defect. Return the name that says what they are, such as
        ``<stem>.unverified.webm``, or None if they are not a video (`omni_async.downloads.containers.identify`) or the
        store keeps nothing but clips. A later such file of the same clip replaces the earlier one, and the complete
        clip replaces both.
        """

    async def discard(self) -> None:
        """Delete the partial clip; its job was cancelled. Never raises."""

    def rename(self, name: str) -> None:
        """Give the clip another name because a method has raised `NameTaken`. That method is then called again.

        A store that holds nothing but clips of this program never raises it.
        """

    def close(self) -> None:
        """Release what the transfer holds, without waiting. A partial clip is kept for a later run.

        Called once at the end of every transfer, also after `commit` and `discard`.
        """


class ClipStore(Protocol):
    """Keeps clips by name. Two clients must not use one name of one store at the same time."""

    @property
    def root(self) -> Path:
        """Where the store is. ``root / name`` is the path of a clip, as `Job.paths` and events give it.

        It must be absolute. The ledger records it, so that `LedgerReader` gives the same paths.
        """

    async def prepare(self) -> None:
        """Check that clips can be stored. Called before the first job of a client is submitted and paid for."""

    def partial(self, name: str, *, is_resumed: bool = True, replace: bool = False) -> PartialClip:
        """Return the clip of this name, to be transferred. `name` is safe as a file name and ends in ``.mp4``.

        Files of others are never changed. An existing partial clip of this name belongs to this job if `is_resumed` is
        true. An existing complete clip does if `replace` is true, or if its content is the same. Otherwise methods
        raise `omni_async.files.NameTaken`, and this one does if the name is known to be taken.
        """

    async def has(self, name: str) -> bool:
        """Return whether a complete clip is kept under this name. Never raise."""

    async def take(self, name: str, source: Path) -> bool:
        """Take over a clip from the folder that was the store before. Return whether a complete clip was there.

        Raise `NameTaken` if the name belongs to something else, which stays as it is. A store that is not a folder may
        return False: the clip is then downloaded.
        """


class FolderClipStore:
    """Clips as files of one folder.

    A clip is written to `<name>.mp4.part` in the same folder. It is verified, synced and renamed, and the folder is
    synced, so that `<name>.mp4` is a complete clip or does not exist, even after a power cut. A lock keeps two clients
    from writing one part file. Files and links that others have put into the folder are never written to or replaced.

    ``folder`` is created when it is needed; a relative one is made absolute here. ``max_threads`` is how many threads
    write at the same time.
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_threads: int = MAX_THREADS) -> None:
        self.root: Path = Path(folder).absolute()
        self._max_threads = max_threads
        self._limiter: anyio.CapacityLimiter | None = None  # made in the event loop
        self._parts_before: frozenset[str] = frozenset()  # part files that were there before this client

    async def prepare(self) -> None:
        """Create the folder and check that files can be written there."""
        self._parts_before = await self.in_thread(prepare_folder, self.root)

    def partial(self, name: str, *, is_resumed: bool = True, replace: bool = False) -> FolderPartialClip:
        """Return the part file of a clip."""
        # Known from the beginning, so that the name is given up before anything can go wrong and be resumed.
        if not is_resumed and f"{name}.part".casefold() in self._parts_before:
            raise NameTaken(part_of(self.root / name))
        return FolderPartialClip(self, PartFile(clip_path(self.root, name), is_resumed=is_resumed, replace=replace))

    async def has(self, name: str) -> bool:
        """Return whether there is a file of this name that is a complete MP4."""
        return await self.in_thread(is_complete, clip_path(self.root, name))

    async def take(self, name: str, source: Path) -> bool:
        """Link the clip of another folder into this one, or copy it if it is on another disk."""
        return await self.in_thread(take_clip, source, clip_path(self.root, name))

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Run blocking work outside of the event loop. It is completed even if the caller is cancelled.

        If this machine is short of open files, wait and repeat it: each kind of work opens what it needs first.
        """
        limiter = self._limiter = self._limiter or anyio.CapacityLimiter(self._max_threads)
        return await retry_while_out_of_resources(lambda: anyio.to_thread.run_sync(work, *arguments, limiter=limiter))


class FolderPartialClip:
    """A `PartFile`, used in threads. What was written is made durable while more arrives, so that little is left."""

    def __init__(self, store: FolderClipStore, file: PartFile) -> None:
        self._in_thread = store.in_thread
        self._file = file
        self._unflushed = 0  # bytes
        self._flush: asyncio.Future[None] | None = None

    async def open(self, offset: int) -> int:
        """Open the part file of an earlier run and keep its first `offset` bytes."""
        return await self._in_thread(self._file.open, offset)

    async def append(self, data: bytes | bytearray) -> None:
        """Write at the end."""
        await self._in_thread(self._file.append, data)
        self._unflushed += len(data)
        if self._unflushed >= _FLUSH_SIZE:
            await self._flushed()
            self._unflushed = 0
            with suppress(OSError):  # without a free descriptor, all is left to the sync at the end
                self._flush = asyncio.get_running_loop().run_in_executor(None, self._file.flusher())

    async def sync(self) -> None:
        """Sync the file."""
        await self._flushed()
        await self._in_thread(self._file.sync)

    async def truncate(self) -> None:
        """Empty the file."""
        await self._flushed()
        await self._in_thread(self._file.truncate)

    async def commit(self, last: bytes | bytearray = b"") -> str | None:
        """Write the last bytes, verify, sync and rename."""
        await self._flushed()
        return await self._in_thread(self._file.commit, last)

    async def keep_unverified(self) -> str | None:
        """Sync the part file and rename it to what it is."""
        await self._flushed()
        return await self._in_thread(self._file.keep_unverified)

    async def discard(self) -> None:
        """Remove the part file."""
        await self._in_thread(self._file.discard)

    def rename(self, name: str) -> None:
        """Change the name of the clip that is to come."""
        self._file.rename(name)

    def close(self) -> None:
        """Close the part file."""
        if self._flush is not None:
            self._flush.add_done_callback(_retrieve)
        self._file.close()

    async def _flushed(self) -> None:
        """Wait until what is being made durable is. Raise what went wrong: the system reports it only once."""
        if self._flush is not None:
            await asyncio.shield(self._flush)
            self._flush = None


def _retrieve(flush: asyncio.Future[None]) -> None:
    """Retrieve the exception of a flush that is no longer awaited, so that asyncio does not log it."""
    if not flush.cancelled():
        flush.exception()
