"""Fixtures and settings of all tests: event loop, hypothesis, signals and small file systems.

Coroutines run on virtual time unless a module or a folder overrides `anyio_backend` with "asyncio": those use sockets,
files, threads or processes, which do not follow a virtual clock.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from omni_async.testing import VirtualTimeLoop, inline_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = [
    "tests.support.disks",
    "tests.support.postgres",
    "tests.support.fleets",
    "tests.support.restarts",
    "tests.support.s3_server",
    "tests.support.timeouts",
]

# The same examples in every run, and no deadline: machines are noisy.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
# A third of the examples where the slow tests are left out: the complete run makes all of them.
settings.register_profile("inner loop", settings.get_profile("repeatable"), max_examples=30)

# A file system in memory, where Linux has one. Tests make thousands of small files and wait for the disk at each commit
# of a ledger: on a disk of 1 ms per fsync, the tests of the ledger take three times as long.
MEMORY = "/dev/shm"
SPACE = 2 * 1024**3  # bytes; a complete run needs a few hundred MB, and a container may have 64 MB


def _has_room(folder: str) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    status = os.statvfs(folder)
    may_execute = not status.f_flag & os.ST_NOEXEC  # some tests write programs and run them
    return may_execute and status.f_bavail * status.f_frsize > SPACE


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process: signals, the folder of temporary files, and the number of examples."""
    # A shell ignores SIGINT for background jobs, and child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):  # and under nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY if _has_room(MEMORY) else tempfile.gettempdir())
    _use_temporary_folder(config)
    if "not slow" in config.option.markexpr:
        settings.load_profile("inner loop")


def _use_temporary_folder(config: pytest.Config) -> None:
    """Have this process and its children put temporary files into a folder that is removed at the end.

    Some tests kill processes, which leave files behind.
    """
    folder = tempfile.mkdtemp(prefix="omni-async-tests-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
    os.chmod(folder, 0o711)  # noqa: PTH101 - root runs Postgres as another user, who must get to a folder in it
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_finish() -> None:
    """Exempt the modules and the list of tests, which stay to the end, from garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """Return two workers more than cores: half of the time of all tests is waiting for processes and sockets."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture
def anyio_backend() -> Iterator[tuple[str, dict[str, Any]]]:
    """Use an asyncio loop on virtual time, with inline threads and a fixed random seed."""
    random.seed(7)
    with inline_threads():
        yield "asyncio", {"loop_factory": VirtualTimeLoop}
