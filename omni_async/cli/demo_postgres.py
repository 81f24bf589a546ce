"""A Postgres of its own for `fleet demo`: in a temporary folder, for this user only, and gone at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from .exit_status import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import Process

# Where distributions put the programs of each version, if they are not on the PATH.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
_START_TIMEOUT = 30.0  # seconds; it takes one
_STOP_TIMEOUT = 10.0
_MISSING = (
    "fleet demo starts a Postgres of its own, and there is no `initdb` on this machine. Install one "
    "(Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17), or use a database that you have: "
    "omni-async fleet init, enqueue and worker, with OMNI_DATABASE_URL"
)
# Runs a program, and ends it when stdin is closed: also if this process is killed, nothing stays behind.
_GUARD = 'number=$1; shift; "$@" & child=$!; read -r _; kill "-$number" "$child" 2>/dev/null; wait "$child"'


def find_programs() -> Path:
    """Return the folder of Postgres' programs. Raise `UsageError` if there is none."""
    if sys.platform == "win32":
        raise UsageError("fleet demo runs on Linux and macOS; on Windows, start it within WSL")
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    for pattern in _FOLDERS:
        candidates += sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise UsageError(_MISSING)


def _version(folder: Path) -> int:
    digits = "".join(char for char in str(folder.parent) if char.isdigit())
    return int(digits or 0)


@asynccontextmanager
async def demo_postgres(folder: Path) -> AsyncIterator[str]:
    """Run a Postgres with its data and its socket in a folder, and yield its URL. Raise `UsageError` if it fails."""
    programs = find_programs()
    identity = await anyio.to_thread.run_sync(_identity, folder)
    command = [str(programs / "initdb"), "-D", "data", "-U", "omni", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    done = await anyio.run_process(command, cwd=folder, check=False, **identity)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise UsageError(f"initdb failed: {said[-1]}")
    settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "log_min_messages=fatal"]
    server = [str(programs / "postgres"), "-D", str(folder / "data"), *settings]
    async with guarded(server, folder / "postgres.log", end="INT", cwd=folder, **identity) as process:
        await _wait_for(folder, programs, process)
        yield f"postgresql://omni@/postgres?host={folder}"


async def _wait_for(folder: Path, programs: Path, process: Process) -> None:
    ready = [str(programs / "pg_isready"), "-q", "-h", str(folder)]
    with anyio.move_on_after(_START_TIMEOUT):
        while process.returncode is None:
            if (await anyio.run_process(ready, check=False)).returncode == 0:
                return
            await anyio.sleep(0.1)
    log = await anyio.Path(folder / "postgres.log").read_text(errors="replace")
    raise UsageError(f"Postgres does not start: {(log.strip().splitlines() or ['no output'])[-1]}")


def _identity(folder: Path) -> dict[str, Any]:
    """Return the user to run Postgres as, which refuses to run as root, and give the folder to that user."""
    if os.geteuid() != 0:
        return {}
    import pwd  # noqa: PLC0415 - Windows has none

    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise UsageError("root cannot run Postgres, and there is no user postgres or nobody: run it as another user")


@asynccontextmanager
async def guarded(
    command: list[str], log: Path, *, end: str = "TERM", env: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Process]:
    """Run a program that ends with this block, or with this process, however that ends. Its output goes to `log`.

    `end` is the signal that asks it to. A shell lets its background processes ignore INT, unless they handle it.
    """
    with await anyio.to_thread.run_sync(log.open, "ab") as output:
        process = await anyio.open_process(
            ["/bin/sh", "-c", _GUARD, "sh", end, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,  # Ctrl-C in a terminal reaches the demo only, which then ends everything in order
            **options,
        )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with anyio.move_on_after(_STOP_TIMEOUT):
                await process.wait()
            with suppress(ProcessLookupError):  # the shell's session: the program, and what that has started
                os.killpg(process.pid, signal.SIGKILL)
            await process.aclose()
