"""A real proxy (tinyproxy) and a certificate of one's own, each made for a test."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PATIENCE = 20.0  # seconds until a proxy listens


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs; its log tells what went through it."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Give its log."""
        return self.log.read_text("utf-8", "replace")


@asynccontextmanager
async def tinyproxy(folder: Path, *settings: str) -> AsyncIterator[Proxy]:
    """Run one on a free port, with these lines in its configuration as well."""
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
            await _listens(proxy, process)
            yield proxy
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listens(proxy: Proxy, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            assert process.returncode is None, proxy.said()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def free_port() -> int:
    """Give a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(folder: Path) -> tuple[str, str]:
    """Make a self-signed certificate for this machine with the system's openssl: its file, and that of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return str(cert), str(key)
