"""A real proxy (tinyproxy) and a self-signed certificate, each created for a test."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_START_TIMEOUT = 20.0  # seconds until a proxy listens


@dataclass(frozen=True)
class Proxy:
    """A running proxy. Its log shows the requests that it received."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def read_log(self) -> str:
        """Return the text of the log."""
        return self.log.read_text("utf-8", "replace")


@asynccontextmanager
async def tinyproxy(folder: Path, *settings: str) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port, with additional lines in its configuration."""
    program = shutil.which("tinyproxy")
    if program is None:
        pytest.skip("tinyproxy is not installed")
    proxy = Proxy(free_port(), folder / "tinyproxy.log")
    config = folder / "tinyproxy.conf"
    common = (f"Port {proxy.port}", "Listen 127.0.0.1", "Timeout 60", "Allow 127.0.0.1", "LogLevel Info")
    config.write_text("\n".join([*common, *settings, ""]), "utf-8")
    with proxy.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, "-d", "-c", str(config), stdout=log, stderr=log)
        try:
            await _wait_until_listening(proxy, process)
            yield proxy
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _wait_until_listening(proxy: Proxy, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_TIMEOUT):
        while True:
            assert process.returncode is None, proxy.read_log()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def certificate(folder: Path) -> tuple[str, str]:
    """Create a self-signed certificate for localhost with openssl; return the files of the certificate and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return str(cert), str(key)
