"""A sandbox in a process of its own, which ends with the process that started it.

The command line uses it for `--sandbox`; tests and benchmarks use it where the sandbox must not share their event loop.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import aiohttp
import anyio

from .children import child_environment
from .settings import SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterable


PACKAGE_ROOT = Path(__file__).parents[2]
# Seconds that a new process gets until it serves. It takes about one on an idle machine; on a loaded one, half might
# fail a start that would have worked, and twice as much would only report a hang later. Chosen, not measured.
START_TIMEOUT = 30.0
# Seconds that the process gets to close before it is killed. Closing takes about SHUTDOWN_TIMEOUT of `server`.
EXIT_TIMEOUT = 5.0
MAX_STDERR = 4000  # bytes of its stderr that an error quotes


class SandboxProcess:
    """A sandbox in a child process, running while its `async with` block is open.

    Takes a `SandboxSettings` or its fields as keyword arguments. Raises `RuntimeError` if the process does not start.

    Example::

        import asyncio
        from omni_async.sandbox import SandboxProcess

        async def main():
            async with SandboxProcess(per_minute=60) as sandbox:
                print(sandbox.base_url, await sandbox.record())

        asyncio.run(main())
    """

    def __init__(self, settings: SandboxSettings | None = None, **options: Any) -> None:
        if settings is not None and options:
            raise TypeError("SandboxProcess takes either a SandboxSettings or keyword arguments, not both")
        self.settings: SandboxSettings = settings or SandboxSettings(**options)
        self.base_url: str = ""
        self.cdn_url: str = ""
        self.api_key: str = ""
        self.pid: int = 0

    async def __aenter__(self) -> SandboxProcess:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        try:
            await self._start()
        except BaseException:
            await self._stop(0.0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop(EXIT_TIMEOUT)

    async def record(self) -> dict[str, Any]:
        """Return what clients have done so far: the fields of `SandboxRecord` as JSON values."""
        async with (
            self._session() as session,
            session.get(f"{self.base_url}/sandbox/record") as response,
        ):
            response.raise_for_status()
            record: dict[str, Any] = await response.json()
            return record

    async def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind, as `Sandbox.script` does. Raises the same `ValueError`."""
        body = {"kind": kind, "names": list(names)}
        async with (
            self._session() as session,
            session.post(f"{self.base_url}/sandbox/script", json=body) as response,
        ):
            if response.status != 200:
                raise ValueError((await response.json())["error"]["message"])

    def _session(self) -> aiohttp.ClientSession:
        trusted = ssl.create_default_context(cafile=self.settings.cert) if self.settings.cert else True
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "omni_async.sandbox", json.dumps(self.settings.to_json())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            env=child_environment(PACKAGE_ROOT),
            start_new_session=True,  # Ctrl-C in a terminal must reach the parent only, which then stops this process
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                line = await self._process.stdout.readline()
        except TimeoutError:
            message = f"the sandbox process did not serve within {START_TIMEOUT:.0f} s: {self._stderr_text()}"
            raise RuntimeError(message) from None
        if not line:
            raise RuntimeError(f"the sandbox process ended before it served: {self._stderr_text()}")
        addresses = json.loads(line)
        self.base_url, self.cdn_url, self.api_key = addresses["base_url"], addresses["cdn_url"], addresses["api_key"]

    def _stderr_text(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()[-MAX_STDERR:].decode(errors="replace") or "it printed nothing on stderr"

    async def _stop(self, timeout: float) -> None:
        """Close the stdin of the process, at which it exits, and kill it if it has not done so within the timeout.

        Shielded: a cancelled scope would cancel each await in turn, and the event loop would end before the process.
        """
        process: asyncio.subprocess.Process | None = getattr(self, "_process", None)
        with anyio.CancelScope(shield=True):
            try:
                if process is not None and process.stdin is not None:
                    process.stdin.close()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(timeout):
                            await process.communicate()
            finally:
                if process is not None and process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.communicate()
                self._stderr.close()
