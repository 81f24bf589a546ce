"""Worker processes that film, so that rendering never holds up an answer."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent
REMEDY = "the sandbox makes real clips and needs av and pillow for it: pip install 'omni-async[media]'"


class RenderError(Exception):
    """A clip could not be made."""


def require_media() -> None:
    """Raise a ModuleNotFoundError naming the remedy if clips cannot be made here."""
    for name in ("av", "PIL"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(REMEDY, name=name)


class Renderer:
    """At most `workers` processes, started when first needed, and the folder they write to."""

    def __init__(self, workers: int) -> None:
        self._places = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def folder(self) -> Path:
        """Where clips and references lie until the end."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="omni-async-sandbox-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    async def render(self, script: dict[str, Any]) -> Path:
        """Film the script; raises RenderError."""
        async with self._places:
            worker = self._idle.pop() if self._idle else await _Worker.start(self.folder)
            try:
                error = await worker.film(script)
            except BaseException:
                await worker.aclose()
                raise
            self._idle.append(worker)
        if error is not None:
            raise RenderError(error)
        return Path(script["path"])

    async def aclose(self) -> None:
        """End the workers and remove the folder."""
        while self._idle:
            await self._idle.pop().aclose()
        if self._folder is not None:
            self._folder.cleanup()


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, complaints: Path) -> None:
        self._process, self._complaints = process, complaints

    @classmethod
    async def start(cls, folder: Path) -> _Worker:
        # The studio runs as a package of its own: without aiohttp and the rest it starts in a fraction of the time.
        paths = [str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
        complaints = folder / "complaints.txt"
        with complaints.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "rendering", str(folder)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is for the parent to decide
            )
        return cls(process, complaints)

    async def film(self, script: dict[str, Any]) -> str | None:
        """What went wrong, or None."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(ConnectionError):
            stdin.write(json.dumps(script).encode() + b"\n")
            await stdin.drain()
        line = await stdout.readline()
        if not line:
            last = self._complaints.read_text(errors="replace")[-2000:]
            raise RenderError(f"the process that renders ended: {last or 'without a word'}")
        error: str | None = json.loads(line)["error"]
        return error

    async def aclose(self) -> None:
        """Kill it, and see it and its pipes gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.communicate()
