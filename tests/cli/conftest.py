"""A fast sandbox for each test, and the command line beside it.

The sandbox runs in a thread of this process and starts in ten milliseconds, so that tests share no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from omni_async.testing import SandboxThread
from tests.support.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAST: dict[str, Any] = {"api_key": "sk-good"}  # beside the defaults of SandboxThread: tasks of 0.05 s, one clip for all


@pytest.fixture
def anyio_backend() -> str:
    """Return asyncio in real time: sockets, processes and threads do not follow a virtual clock."""
    return "asyncio"


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[SandboxThread]:
    """Serve for a test; `@pytest.mark.parametrize("sandbox", [{name: value}], indirect=True)` changes settings."""
    settings = getattr(request, "param", {})
    with SandboxThread(**(FAST | settings)) as thread:
        yield thread


@pytest.fixture
def shell(sandbox: SandboxThread, tmp_path: Path) -> Shell:
    """Return a working directory and an environment in which the command line uses the sandbox."""
    return Shell(tmp_path, sandbox.environment)


@pytest.fixture
def bare_shell(tmp_path: Path) -> Shell:
    """Return a working directory and an environment without key and address."""
    return Shell(tmp_path, {})
