"""Fixtures and settings of all tests: event loop, hypothesis, signals and small file systems.

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
    """Restore SIGINT, which a shell ignores for background jobs and child processes inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> Iterator[tuple[str, dict[str, Any]]]:
    """Use an asyncio loop on virtual time, with inline threads and a fixed random seed."""
    random.seed(7)
    with inline_threads():
        yield "asyncio", {"loop_factory": VirtualTimeLoop}
