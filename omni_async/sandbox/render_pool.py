"""Worker processes that render clips, so that rendering never delays a response.

This module must stay outside of `rendering/`: the workers import that folder as a package of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .children import child_environment

HOME = Path(__file__).parent  # the folder that contains the package `rendering`
MISSING_EXTRA = "the sandbox makes real clips and needs av and pillow for it: pip install 'omni-async[media]'"
# Characters of a dead worker's stderr that its error quotes: a traceback of av fits.
MAX_STDERR = 2000


class RenderError(Exception):
    """A clip could not be rendered."""


def require_media() -> None:
    """Raise a `ModuleNotFoundError` that says what to install if clips cannot be rendered here."""
    for name in ("av", "PIL"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(MISSING_EXTRA, name=name)


class Renderer:
    """At most `workers` processes, each started when it is first needed, and the folder that they write to."""

    def __init__(self, workers: int) -> None:
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def folder(self) -> Path:
        """The temporary folder of clips and references, created when it is first needed."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="omni-async-sandbox-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    async def render(self, spec: dict[str, Any]) -> Path:
        """Render a clip and return its path. `spec` holds the fields of `rendering.video.ClipSpec`.

        Raises `RenderError`.
        """
        async with self._slots:
            worker = self._idle.pop() if self._idle else await _Worker.start(self.folder)
            try:
                error = await worker.render(spec)
            except BaseException:
                # The worker is dead, or it is still busy with a clip that is no longer wanted.
                await worker.aclose()
                raise
            self._idle.append(worker)
        if error is not None:
            raise RenderError(error)
        return Path(spec["path"])

    async def aclose(self) -> None:
        """Stop the workers and remove the folder."""
        while self._idle:
            await self._idle.pop().aclose()
        if self._folder is not None:
            self._folder.cleanup()


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, stderr: Path) -> None:
        self._process, self._stderr = process, stderr

    @classmethod
    async def start(cls, folder: Path) -> _Worker:
        # As a package of its own, `rendering` imports neither aiohttp nor this library: it starts much faster.
        stderr_path = folder / "stderr.txt"
        with stderr_path.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "rendering", str(folder)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=child_environment(HOME),
                start_new_session=True,  # Ctrl-C in a terminal must reach the parent only
            )
        return cls(process, stderr_path)

    async def render(self, spec: dict[str, Any]) -> str | None:
        """Render a clip. Return what went wrong with it, None if nothing. Raise `RenderError` if the worker died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(ConnectionError):  # it has died; reading its stdout then says so
            stdin.write(json.dumps(spec).encode() + b"\n")
            await stdin.drain()
        line = await stdout.readline()
        if not line:
            output = self._stderr.read_text(errors="replace")[-MAX_STDERR:]
            raise RenderError(f"the rendering process ended: {output or 'it printed nothing on stderr'}")
        error: str | None = json.loads(line)["error"]
        return error

    async def aclose(self) -> None:
        """Kill the process, and wait until it and its pipes are gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.communicate()
