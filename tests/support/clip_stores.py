"""A clip store in memory: what a store other than a folder has to do, in one module."""

from __future__ import annotations

from pathlib import Path

from omni_async.downloads import mp4


class MemoryClipStore:
    """Keeps clips in a dict, and what was synced of partial ones in another, as a disk would after a power cut."""

    def __init__(self, root: Path = Path("/memory/clips")) -> None:
        self.root = root
        self.clips: dict[str, bytes] = {}
        self.partial_clips: dict[str, bytes] = {}
        self.open_clips: set[str] = set()  # names of transfers that are not closed yet

    async def prepare(self) -> None:
        """Do nothing: there is always space."""

    def partial(self, name: str, *, is_resumed: bool = True, replace: bool = False) -> MemoryPartialClip:
        """Return a clip to be transferred."""
        return MemoryPartialClip(self, name)

    async def has(self, name: str) -> bool:
        """Return whether a complete clip is kept under this name."""
        return name in self.clips and mp4.find_defect_in(self.clips[name]) is None

    async def take(self, name: str, source: Path) -> bool:
        """Take nothing: there are no folders here."""
        return False


class MemoryPartialClip:
    """A clip that is being transferred into memory."""

    def __init__(self, store: MemoryClipStore, name: str) -> None:
        self._store = store
        self._name = name
        self._data = bytearray()
        store.open_clips.add(name)

    async def open(self, offset: int) -> int:
        """Keep the first bytes of an earlier run."""
        synced = self._store.partial_clips.get(self._name, b"")
        self._data = bytearray(synced[:offset] if len(synced) >= offset else b"")
        return len(self._data)

    async def append(self, data: bytes | bytearray) -> None:
        """Add bytes."""
        self._data += data

    async def sync(self) -> None:
        """Let a later run find the bytes so far."""
        self._store.partial_clips[self._name] = bytes(self._data)

    async def truncate(self) -> None:
        """Delete the bytes so far."""
        self._data.clear()

    async def commit(self, last: bytes | bytearray = b"") -> str | None:
        """Keep the clip under its name, if it is complete."""
        self._data += last
        defect = mp4.find_defect_in(self._data)
        if defect is None:
            self._store.clips[self._name] = bytes(self._data)
            self._store.partial_clips.pop(self._name, None)
        return defect

    async def keep_unverified(self) -> str | None:
        """Keep nothing but clips."""
        return None

    async def discard(self) -> None:
        """Delete the partial clip."""
        self._store.partial_clips.pop(self._name, None)

    def rename(self, name: str) -> None:
        """Change the name; never called, because no name is ever taken."""
        self._name = name

    def close(self) -> None:
        """Count it as closed."""
        self._store.open_clips.discard(self._name)
