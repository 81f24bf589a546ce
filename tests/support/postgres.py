"""A real Postgres for tests: started as another user than root, and stopped for certain when the test run has ended.

`postgres` is one server for all workers of a run; `postgres_url` is a database of its own in it. Tests that stop or
kill a server make one with `own_postgres`.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEBIAN = Path("/usr/lib/postgresql")  # Debian keeps the programs of each version in a folder of its own
_OLDEST = 15
# Durable as in production, but with room for many small databases, and quick to see that a client is gone.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "log_min_messages": "fatal",
    "max_prepared_transactions": "0",
}


def find_programs() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`: the one on the PATH, or Debian's newest; None if there is none."""
    on_path = shutil.which("initdb")
    if on_path is not None and shutil.which("pg_ctl") is not None:
        return Path(on_path).resolve().parent
    versions = [path for path in _DEBIAN.glob("*/bin/initdb") if path.parts[-3].isdigit()]
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest is not None else None


def missing_reason() -> str | None:
    """Return why no Postgres can be started here; None if one can."""
    programs = find_programs()
    if programs is None:
        return "there is no initdb on the PATH (Debian: apt-get install postgresql)"
    text = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    version = int(text.split()[-1].split(".")[0]) if text.split() and text.split()[-1][:1].isdigit() else None
    version = version or next((int(word.split(".")[0]) for word in text.split() if word[:1].isdigit()), 0)
    return None if version >= _OLDEST else f"Postgres {version} is older than {_OLDEST}"


needs_postgres = pytest.mark.skipif(missing_reason() is not None, reason=str(missing_reason()))


@dataclass(frozen=True)
class PostgresServer:
    """One server: a folder with its data, its log and its socket, and the port on which it listens."""

    folder: str
    port: int

    @classmethod
    def create(cls, owner_pid: int) -> PostgresServer:
        """Make and start a server that ends, and whose folder is removed, when the process `owner_pid` has ended."""
        from .ports import free_port  # not in the process that watches, which runs this file alone

        # In memory where there is room (tests/conftest.py): to make and drop a database waits for the disk for seconds.
        folder = Path(tempfile.mkdtemp(prefix="omni-postgres-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
        server = cls(str(folder), free_port())
        user = unprivileged_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        server._run("initdb", "-D", "data", "-U", "omni", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = _SETTINGS | {"port": str(server.port), "unix_socket_directories": str(folder)}
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (folder / "data/postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(lines)
        server.start()
        subprocess.run(
            [sys.executable, __file__, str(owner_pid), json.dumps(asdict(server))],
            start_new_session=True,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return server

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: "immediate" is as a crash, "fast" closes every connection first."""
        self._run("pg_ctl", "-D", "data", "-w", "-t", "60", "-m", mode, "stop")

    def restart(self, mode: str = "immediate") -> None:
        """Stop the server and start it again."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server if it runs, and remove its folder."""
        with suppress(subprocess.CalledProcessError, OSError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://omni@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, template: str = "template1") -> str:
        """Make a database, as a copy of another one, and return its name."""
        name = f"test_{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")  # twice as fast as by its log
        return name

    def _run(self, program: str, *arguments: str) -> None:
        programs, user = find_programs(), unprivileged_user()
        assert programs is not None
        identity: dict[str, Any] = {}
        if user is not None:
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(
            [programs / program, *arguments],
            cwd=self.folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # not a pipe: the server would inherit it and hold it open
            stderr=subprocess.DEVNULL,
            **identity,
        )


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user to run as: Postgres refuses to run as root. None: the present one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("root cannot run Postgres, and there is no user postgres or nobody")


@contextmanager
def own_postgres() -> Iterator[PostgresServer]:
    """Run a server of one's own, to be stopped and killed."""
    server = PostgresServer.create(os.getpid())
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """Return the server that all workers of this run share; the first one that needs it starts it."""
    if (reason := missing_reason()) is not None:
        pytest.skip(reason)
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if is_worker else folder) / "postgres.json"
    owner = os.getppid() if is_worker else os.getpid()
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shared.exists():
            return PostgresServer(**json.loads(shared.read_text()))
        server = PostgresServer.create(owner)
        shared.write_text(json.dumps(asdict(server)))
        return server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Return the URL of an empty database of this test's own."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _watch(owner_pid: int, server: PostgresServer) -> None:
    """Wait until a process has ended, then remove a server. Runs in a process of its own, which survives a SIGKILL."""
    while Path(server.folder).exists():
        try:
            os.kill(owner_pid, 0)
        except ProcessLookupError:
            server.remove()
            return
        time.sleep(0.3)


if __name__ == "__main__" and os.fork() == 0:  # the parent ends at once: nothing has to wait for the child
    _watch(int(sys.argv[1]), PostgresServer(**json.loads(sys.argv[2])))
