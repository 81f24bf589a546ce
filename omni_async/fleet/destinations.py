"""Where the clips of a fleet become visible: `FolderDestination`, or `ObjectDestination` for S3, Google and Azure.

Both publish a complete local file under a name, whole or not at all, and never replace what others have put there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from contextlib import aclosing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from ..downloads.partfile import is_complete, prepare_folder
from ..files import NameTaken, has_content_of, is_regular, link, open_regular, publish, temporary_path
from ..jobs.clip_paths import clip_path
from ..plain_text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


_PIECE = 1024 * 1024  # bytes that are copied at a time; chosen, not measured
# What a worker that was killed may leave of a copy, and the seconds after which it is no longer being written.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part")
_ABANDONED = 24 * 3600.0

_CLOUDS = frozenset({"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"})
_OTHERS = frozenset({"memory", "file"})  # for tests
# A single request is repeated this often, within these seconds. Longer outages are waited for by the store in front.
_RETRIES, _RETRY_SECONDS = 4, 15.0
_PROBE = ".omni-async"  # the object that is written to see whether that is possible
_PREPARE_SECONDS = 60.0  # for the first contact; without credentials, a cloud's metadata service is tried
_MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"}
_MISSING = "clips in an object store need the extra s3: pip install 'omni-async[fleet,s3]'"


class FolderDestination:
    """A folder. A clip is copied under a temporary name, synced, and gets its name in one step.

    Files and links that others have put into the folder are never written to or replaced. If the folder vanishes, or
    its file system is unmounted, nothing is written to what is there instead.
    """

    def __init__(self, folder: Path) -> None:
        self.root: Path = folder.absolute()
        self.address: str = str(self.root)
        self._device: int | None = None  # of the file system that was there at the beginning

    def location(self, name: str) -> str:
        """Return the absolute path of a file."""
        return str(clip_path(self.root, name))

    async def prepare(self) -> None:
        """Create the folder and check that files can be written there."""
        await anyio.to_thread.run_sync(self._prepare)

    def _prepare(self) -> None:
        prepare_folder(self.root)
        self._device = self.root.stat().st_dev
        with os.scandir(self.root) as entries:
            names = [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]
        for path in (self.root / name for name in names):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _ABANDONED:
                    path.unlink()

    async def publish(self, source: Path, name: str) -> None:
        """Copy a local file into the folder, or link it if it is on the same disk."""
        await anyio.to_thread.run_sync(self._publish, source, clip_path(self.root, name))

    def _publish(self, source: Path, path: Path) -> None:
        self._check_folder()
        path.parent.mkdir(exist_ok=True)  # a folder of inputs
        try:
            if has_content_of(path, source):  # another worker has been faster
                return
            if not link(source, path):
                _copy(source, path)
        except NameTaken:
            if not has_content_of(path, source):
                raise
        _sync_folder(path.parent)

    def _check_folder(self) -> None:
        """Raise `OSError` if this is not the folder that was there at the beginning."""
        device = self.root.stat().st_dev
        if self._device is not None and device != self._device:
            raise OSError(errno.ESTALE, "its file system is no longer mounted", str(self.root))

    async def has(self, name: str) -> bool:
        """Return whether there is a file of this name that is a complete MP4."""
        return await anyio.to_thread.run_sync(is_complete, clip_path(self.root, name))

    async def copy_to(self, name: str, path: Path) -> bool:
        """Copy a file of the folder to another place."""
        return await anyio.to_thread.run_sync(_copy_if_there, clip_path(self.root, name), path)

    async def remove(self, name: str) -> None:
        """Delete a file."""
        await anyio.to_thread.run_sync(lambda: clip_path(self.root, name).unlink(missing_ok=True))


def _copy_if_there(source: Path, path: Path) -> bool:
    if not source.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if not has_content_of(path, source):
        _copy(source, path)
    return True


def _copy(source: Path, path: Path) -> None:
    """Copy a file. The copy has its name when it is complete and on disk. Raise `NameTaken`."""
    temporary = temporary_path(path)
    try:
        with os.fdopen(open_regular(temporary, exclusive=True), "wb") as file, source.open("rb") as original:
            shutil.copyfileobj(original, file, _PIECE)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _has_size(path: Path, size: int) -> bool:
    """Return whether a path is a regular file of this size."""
    return is_regular(path) and path.stat().st_size == size


def _publish_copy(temporary: Path, path: Path, size: int) -> None:
    """Give the copy of an object its name. Raise `NameTaken` if there is another file, unless it has its size."""
    try:
        publish(temporary, path)
    except NameTaken:
        if not _has_size(path, size):  # else it was copied twice at the same time
            raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names of a folder survive a power cut, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class ObjectDestination:
    """A bucket, or what is below a prefix in it. An object appears whole or not at all, large ones in several parts.

    Objects of others are never replaced: a name that holds other bytes is left as it is.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        if scheme not in _CLOUDS | _OTHERS:
            raise ValueError(
                f"a clip store is a folder, or a URL that begins with s3://, gs:// or az://, not {scheme}://"
            )
        if parts.username or parts.password or parts.query or parts.fragment:  # the URL is shown, and recorded
            raise ValueError(f"a clip store's URL is {scheme}://BUCKET/PREFIX; credentials come from the environment")
        if scheme in _CLOUDS and not parts.netloc:
            raise ValueError(f"{scheme}:// names no bucket: {scheme}://BUCKET/PREFIX")
        try:
            import obstore.exceptions  # noqa: PLC0415 - an extra of its own
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(_MISSING) from error
        self._obstore: Any = obstore
        self.address: str = url.rstrip("/")
        with _as_os_error(self.address):
            self._store: Any = from_url(self.address, **_options(scheme))
        self.root: Path = Path("/") / self.address.replace("://", ":/")

    def location(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self.address}/{name}"

    async def prepare(self) -> None:
        """Write an object and delete it again. Raise `OSError` if that is impossible."""
        with _as_os_error(self.address):
            try:
                with anyio.fail_after(_PREPARE_SECONDS):
                    await self._obstore.put_async(self._store, _PROBE, b"0")
                    await self._size(f"{_PROBE}-missing")
            except TimeoutError as error:
                raise OSError(errno.ETIMEDOUT, "it does not answer", self.address) from error
            except self._obstore.exceptions.PermissionDeniedError as error:
                text = f"no permission: objects must be written, read and listed (s3:ListBucket): {_first_line(error)}"
                raise OSError(errno.EACCES, text, self.address) from error
            with suppress(self._obstore.exceptions.BaseError):  # nothing else needs the right to delete
                await self._obstore.delete_async(self._store, _PROBE)

    async def publish(self, source: Path, name: str) -> None:
        """Upload a local file."""
        attributes = {"Content-Type": _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")}
        with _as_os_error(self.location(name)):
            if not await self._is_there(source, name):
                await self._obstore.put_async(self._store, name, source, attributes=self._known(attributes))

    async def _is_there(self, source: Path, name: str) -> bool:
        """Return whether an object has the content of a file. Raise `NameTaken` if it has another."""
        size = await self._size(name)
        if size is None:
            return False
        if size == (await anyio.Path(source).stat()).st_size:
            digest = hashlib.sha256()
            async for chunk in self._chunks(name):
                digest.update(chunk)
            if digest.digest() == await anyio.to_thread.run_sync(_digest, source):
                return True
        raise NameTaken(Path(self.location(name)))

    async def _size(self, name: str) -> int | None:
        try:
            size: int = (await self._obstore.head_async(self._store, name))["size"]
        except FileNotFoundError:
            return None
        return size

    async def has(self, name: str) -> bool:
        """Return whether there is an object of this name."""
        with _as_os_error(self.location(name)):
            return await self._size(name) is not None

    async def copy_to(self, name: str, path: Path) -> bool:
        """Download an object, unless there is a file of its size already. Raise `NameTaken` if there is any other."""
        with _as_os_error(self.location(name)):
            size = await self._size(name)
        if size is None:
            return False
        if not await anyio.to_thread.run_sync(_has_size, path, size):
            temporary = anyio.Path(temporary_path(path))
            try:
                await self._download(name, temporary)
                await anyio.to_thread.run_sync(_publish_copy, Path(temporary), path, size)
            finally:
                with anyio.CancelScope(shield=True):
                    await temporary.unlink(missing_ok=True)
        return True

    async def _download(self, name: str, path: anyio.Path) -> None:
        """Write an object to a new file, and flush it to the disk."""
        await path.parent.mkdir(parents=True, exist_ok=True)
        async with await anyio.open_file(path, "xb") as file, aclosing(self._chunks(name)) as chunks:
            async for chunk in chunks:
                await file.write(chunk)
            await file.flush()
            await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())

    async def _chunks(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the content of an object."""
        with _as_os_error(self.location(name)):
            async for chunk in (await self._obstore.get_async(self._store, name)).stream():
                yield chunk

    async def remove(self, name: str) -> None:
        """Delete an object."""
        with _as_os_error(self.location(name)):
            await self._obstore.delete_async(self._store, name)

    def _known(self, attributes: dict[str, str]) -> dict[str, str] | None:
        """Return the attributes, unless the store has none."""
        return attributes if urlsplit(self.address).scheme in _CLOUDS else None


def _options(scheme: str) -> dict[str, Any]:
    if scheme in _CLOUDS:
        return {"retry_config": {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}}
    return {"mkdir": True} if scheme == "file" else {}


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextmanager
def _as_os_error(location: str) -> Iterator[None]:
    """Raise an error of obstore as `OSError`, in one line that names the place. It quotes the server, not our keys."""
    try:
        yield
    except NameTaken:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename == location:
            raise
        module = type(error).__module__
        if not (isinstance(error, OSError) or module.startswith("obstore")):
            raise
        raise OSError(errno.EIO, _first_line(error), location) from error


def _first_line(error: BaseException) -> str:
    """Return what an error of obstore says, without what it says to its own developers."""
    return one_line(str(error).partition("\n\nDebug source")[0], limit=300)
