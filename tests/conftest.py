"""What all tests share: the event loop, hypothesis, signals, and small file systems.

Coroutines run on virtual time unless a module or a folder overrides `anyio_backend` with "asyncio": those use sockets,
files, threads or processes, which do not follow a virtual clock.
"""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from omni_async.testing import VirtualTimeLoop, inline_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tests.support.disks", "tests.support.restarts"]

# The same examples in every run, and no deadline: machines are noisy.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Restore SIGINT where a shell started pytest in the background with it ignored: child processes inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an asyncio loop on virtual time, with threads' work done inline and the same random numbers every time."""
    random.seed(7)
    with inline_threads():
        yield "asyncio", {"loop_factory": VirtualTimeLoop}
