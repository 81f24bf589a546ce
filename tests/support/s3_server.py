"""An S3 server of this machine: moto's, in a process of its own, with an empty bucket."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and the bucket that it has."""

    port: int
    bucket: str = "clips"

    def variables(self, port: int | None = None) -> dict[str, str]:
        """Return the environment variables with which it is found, perhaps by way of a proxy on another port."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def create_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Run a server."""
    server = S3Server(free_port())
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(server.port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with suppress(OSError):
                server.create_bucket(server.bucket)
                break
            assert process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < until, "the S3 server does not answer"
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    """Return a server for the tests of a module; skip them where moto is missing."""
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    with running_s3_server() as server:
        yield server
