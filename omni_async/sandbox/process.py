"""A sandbox in a process of its own, which ends with the process that started it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import aiohttp
import anyio

from .settings import SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterable


PACKAGES = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds a new process gets until it serves
GRACE = 5.0  # seconds it gets to end


class SandboxProcess:
    """`async with SandboxProcess(per_minute=60) as sandbox: sandbox.base_url; await sandbox.record()`."""

    def __init__(self, settings: SandboxSettings | None = None, **knobs: Any) -> None:
        if settings is not None and knobs:
            raise TypeError("give SandboxProcess either settings or knobs, not both")
        self.settings = settings or SandboxSettings(**knobs)
        self.base_url = self.cdn_url = self.api_key = ""
        self.pid = 0

    async def __aenter__(self) -> SandboxProcess:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        try:
            await self._start()
        except BaseException:
            await self._stop(0.0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop(GRACE)

    async def record(self) -> dict[str, Any]:
        """What clients did to it so far."""
        async with (
            self._session() as session,
            session.get(f"{self.base_url}/sandbox/record") as response,
        ):
            response.raise_for_status()
            told: dict[str, Any] = await response.json()
            return told

    async def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind, as `Sandbox.script` does."""
        body = {"kind": kind, "names": list(names)}
        async with (
            self._session() as session,
            session.post(f"{self.base_url}/sandbox/script", json=body) as response,
        ):
            if response.status != 200:
                raise ValueError(await response.text())

    def _session(self) -> aiohttp.ClientSession:
        trusted = ssl.create_default_context(cafile=self.settings.cert) if self.settings.cert else True
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))

    async def _start(self) -> None:
        paths = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "omni_async.sandbox", "--child", json.dumps(self.settings.to_json())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the parent to decide
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        except TimeoutError:
            raise RuntimeError(f"the sandbox did not serve within {PATIENCE:.0f} s: {self._complaints()}") from None
        if not line:
            raise RuntimeError(f"the sandbox ended before it served: {self._complaints()}")
        told = json.loads(line)
        self.base_url, self.cdn_url, self.api_key = told["base_url"], told["cdn_url"], told["api_key"]

    def _complaints(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()[-4000:].decode(errors="replace") or "it said nothing"

    async def _stop(self, grace: float) -> None:
        """Close its stdin, which it takes as the word to end; kill it if it does not.

        Shielded: a cancelled scope would cancel each await in turn, and the loop end before the process was seen gone.
        """
        process: asyncio.subprocess.Process | None = getattr(self, "_process", None)
        with anyio.CancelScope(shield=True):
            try:
                if process is not None and process.stdin is not None:
                    process.stdin.close()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(process.communicate(), grace)
            finally:
                if process is not None and process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.communicate()
                self._stderr.close()
