"""Where a fleet keeps its clips: a folder, or an object store such as S3. `clip_store` makes the store of a worker.

Every worker downloads into a spool of its own, a folder on its local disk, and verifies the clip there. Only then is
it published under its name, whole or not at all. So two workers may download one clip at the same time: they publish
the same bytes.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.to_thread

from ..downloads.clip_store import MAX_THREADS
from ..downloads.partfile import PartFile
from ..exhaustion import retry_while_out_of_resources
from ..files import NameTaken
from ..logs import get_logger
from .destinations import FolderDestination, ObjectDestination

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


_T = TypeVar("_T")

_log = get_logger(__name__)

_SPOOL_PREFIX = "omni-async-spool-"
# Seconds without a write after which a spool of another process no longer belongs to a process. Twice as long keeps the
# remains of killed workers longer; a shorter time might remove the spool of a worker that is idle, which then makes
# another. Chosen, not measured.
_ABANDONED = 24 * 3600.0
# Seconds for which publishing a verified clip is repeated before its task goes back to the queue, where it begins again
# with the download. At half, an outage of the store causes more downloads; at double, a worker that alone has no way
# to the store holds its tasks longer. Chosen, not measured.
_GIVE_UP_AFTER = 30.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 5.0  # seconds between two attempts


class Destination(Protocol):
    """Where clips become visible: `FolderDestination` or `ObjectDestination`. All methods may raise `OSError`."""

    @property
    def root(self) -> Path:
        """A path that stands for it. ``root / name`` names a clip where a path is wanted."""

    @property
    def address(self) -> str:
        """The absolute folder, or the URL."""

    def location(self, name: str) -> str:
        """Return where a file is, for users: an absolute path, or a URL."""

    async def prepare(self) -> None:
        """Check that files can be kept here."""

    async def publish(self, source: Path, name: str) -> None:
        """Keep a complete local file under a name. It appears there whole, or not at all.

        Do nothing if the same bytes are there already. Raise `NameTaken` if there is anything else, which stays.
        """

    async def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""

    async def copy_to(self, name: str, path: Path) -> bool:
        """Copy a file to the local disk, whole or not at all. Return False if there is none of this name."""

    async def remove(self, name: str) -> None:
        """Delete a file that was published here, if it is still there."""


class SpooledClipStore:
    """The `ClipStore` port for workers: a local spool in front of a destination that many workers share.

    ``spool`` is the folder in which the worker makes its spool; the system's folder for temporary files by default. It
    must have room for as many clips as are downloaded at the same time. ``max_threads`` is how many threads write at
    the same time, ``give_up_after`` for how many seconds publishing a clip is repeated while the destination fails.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        spool: str | os.PathLike[str] | None = None,
        max_threads: int = MAX_THREADS,
        give_up_after: float = _GIVE_UP_AFTER,
    ) -> None:
        self.destination = destination
        self._spool_parent = Path(spool or tempfile.gettempdir()).absolute()
        self._spool: Path | None = None
        self._give_up_after = give_up_after
        self._max_threads = max_threads
        self._limiter: anyio.CapacityLimiter | None = None  # made in the event loop
        self.is_failing: bool = False  # the destination takes no clip, and the user knows it

    def __repr__(self) -> str:
        return f"<SpooledClipStore {self.location('')}>"

    @property
    def root(self) -> Path:
        """A path that stands for the destination."""
        return self.destination.root

    @property
    def address(self) -> str:
        """The destination as it was given: an absolute folder, or a URL. `clip_store` accepts it again."""
        return self.destination.address

    @property
    def spool(self) -> Path:
        """The folder on the local disk that is this worker's alone. `prepare` makes it, and `aclose` removes it."""
        assert self._spool is not None, "prepare() comes first"
        return self._spool

    def location(self, name: str) -> str:
        """Return where a clip is, for users: an absolute path, or a URL."""
        return self.destination.location(name)

    async def prepare(self) -> None:
        """Make the spool, and check that clips can be kept."""
        # Its name is known before it is made: it is removed even if this is cancelled.
        self._spool = self._spool or self._spool_parent / f"{_SPOOL_PREFIX}{secrets.token_hex(8)}"
        await self.in_thread(self._make_spool, self._spool)
        await self.destination.prepare()

    async def aclose(self) -> None:
        """Remove the spool, also if the caller was cancelled. Never raises."""
        spool, self._spool = self._spool, None
        if spool is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, spool, ignore_errors=True))

    def _make_spool(self, spool: Path) -> None:
        """Make a spool that other users cannot look into, unless the store has been closed meanwhile."""
        _remove_abandoned(spool.parent)
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._spool != spool:
            shutil.rmtree(spool, ignore_errors=True)

    def partial(self, name: str, *, is_resumed: bool = True, replace: bool = False) -> SpooledClip:
        """Return a clip to be downloaded into the spool. It always begins empty."""
        return SpooledClip(self, PartFile(self.spool / f"{secrets.token_hex(8)}.mp4"), name)

    async def has(self, name: str) -> bool:
        """Return whether a clip was published under this name."""
        try:
            return await self.destination.has(name)
        except OSError:
            return False

    async def take(self, name: str, source: Path) -> bool:
        """Take nothing: a fleet has no folder before this one."""
        return False

    async def publish(self, source: Path, name: str) -> None:
        """Publish a verified file, patiently: wait for a destination that is unreachable for a moment."""
        give_up_at = time.monotonic() + self._give_up_after
        wait = _FIRST_WAIT
        while True:
            try:
                await self.destination.publish(source, name)
            except NameTaken:
                raise
            except OSError as error:
                self._report(error)
                if time.monotonic() + wait > give_up_at:
                    raise
            else:
                self._report(None)
                return
            await anyio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Run blocking work outside of the event loop. It is completed even if the caller is cancelled."""
        limiter = self._limiter = self._limiter or anyio.CapacityLimiter(self._max_threads)
        return await retry_while_out_of_resources(lambda: anyio.to_thread.run_sync(work, *arguments, limiter=limiter))

    def _report(self, error: OSError | None) -> None:
        """Tell the user once that clips cannot be stored, however many wait, and once that they can be again."""
        if error is not None and not self.is_failing:
            reason = error.strerror or error
            _log.warning("clips cannot be stored in %s: %s. They are kept and tried again", self.address, reason)
        elif error is None and self.is_failing:
            _log.warning("clips are stored in %s again", self.address)
        self.is_failing = error is not None


class SpooledClip:
    """A clip that is being downloaded into the spool. `commit` verifies it there and publishes it."""

    def __init__(self, store: SpooledClipStore, file: PartFile, name: str) -> None:
        self._store = store
        self._file = file
        self._name = name
        self._is_verified = False
        self._unverified = ""  # the name under which a video of another kind is published

    async def open(self, offset: int) -> int:
        """Begin empty: nothing is continued after the worker that began it."""
        return 0

    async def append(self, data: bytes | bytearray) -> None:
        """Write at the end."""
        await self._store.in_thread(self._file.append, data)

    async def sync(self) -> None:
        """Do nothing: the spool does not outlive its worker."""

    async def truncate(self) -> None:
        """Empty the file."""
        await self._store.in_thread(self._file.truncate)

    async def commit(self, last: bytes | bytearray = b"") -> str | None:
        """Write the last bytes, verify the clip and publish it."""
        if not self._is_verified:  # else it is repeated under another name
            defect = await self._store.in_thread(self._file.commit, last)
            if defect is not None:
                return defect
            self._is_verified = True
        await self._store.publish(self._file.path, self._name)
        if self._unverified:
            with suppress(OSError):
                await self._store.destination.remove(self._unverified)
        return None

    async def keep_unverified(self) -> str | None:
        """Publish the bytes so far if they are a whole video of another kind."""
        kept = await self._store.in_thread(self._file.keep_unverified)
        if kept is None:
            return None
        suffix = kept.rpartition(".")[2]
        name = f"{Path(self._name).stem}.unverified.{suffix}"
        with suppress(NameTaken):  # then what came before it is kept
            await self._store.publish(self._file.path.with_name(kept), name)
        self._unverified = name
        return name

    async def discard(self) -> None:
        """Remove the file."""
        await self._store.in_thread(self._remove)

    def rename(self, name: str) -> None:
        """Change the name under which the clip will be published."""
        self._name = name

    def close(self) -> None:
        """Remove what the spool still holds of the clip."""
        self._remove()

    def _remove(self) -> None:
        self._file.close()
        with suppress(OSError):
            for path in self._file.path.parent.glob(f"{self._file.path.stem}.*"):
                path.unlink(missing_ok=True)


def clip_store(
    destination: str | os.PathLike[str],
    spool: str | os.PathLike[str] | None = None,
    *,
    max_threads: int = MAX_THREADS,
    give_up_after: float = _GIVE_UP_AFTER,
) -> SpooledClipStore:
    """Return the clip store of a worker for a folder, or for a URL such as ``s3://bucket/prefix``.

    A folder may be shared by all workers (a network mount), or each worker's own. Object stores need the extra `s3`,
    and take their credentials from the usual environment variables (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...).
    Raise `ValueError` for a URL of another kind, and `ImportError`, which says what to install, without the extra.
    """
    text = str(destination)
    place: Destination = ObjectDestination(text) if "://" in text else FolderDestination(Path(destination))
    return SpooledClipStore(place, spool=spool, max_threads=max_threads, give_up_after=give_up_after)


def _remove_abandoned(parent: Path) -> None:
    """Remove the spools of workers that were killed long ago."""
    for path in parent.glob(f"{_SPOOL_PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _ABANDONED and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
