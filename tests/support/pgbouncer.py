"""A real pgbouncer in transaction mode, before a Postgres of `tests.support.postgres`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from .ports import free_port
from .postgres import unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .postgres import PostgresServer

_DEBIAN = "/usr/sbin/pgbouncer"  # not on the PATH of every user


def find_pgbouncer() -> str | None:
    """Return the path of the program; None if there is none."""
    return shutil.which("pgbouncer") or (_DEBIAN if os.access(_DEBIAN, os.X_OK) else None)


needs_pgbouncer = pytest.mark.skipif(
    find_pgbouncer() is None, reason="there is no pgbouncer (Debian: apt-get install pgbouncer)"
)


@contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[int]:
    """Run pgbouncer in transaction mode before all databases of a server, and yield its port."""
    program, user, port = find_pgbouncer(), unprivileged_user(), free_port()
    assert program is not None
    folder = Path(tempfile.mkdtemp(prefix="omni-pgbouncer-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=omni\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 5\nserver_login_retry = 1\nlogfile = /dev/null\n"
    )
    identity = [] if user is None else ["-u", user.pw_name]
    if user is not None:
        folder.chmod(0o755)
    process = subprocess.Popen(
        [program, *identity, str(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(port)
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait_until_ready(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(f"postgresql://omni@127.0.0.1:{port}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
