"""A sandbox that is quick, and the command line as a process beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.shell import Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUICK: dict[str, Any] = {"median": 0.1, "prerendered": True, "api_key": "sk-good"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The one event loop this library is for; one of them for a module, so that its tests can share a sandbox."""
    return "asyncio"


@pytest.fixture(scope="module")
async def shared_sandbox() -> AsyncIterator[SandboxProcess]:
    """Serve for all tests of a module that turn no knobs."""
    async with SandboxProcess(**QUICK) as process:
        yield process


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest, shared_sandbox: SandboxProcess) -> AsyncIterator[SandboxProcess]:
    """Serve for a test; `@pytest.mark.parametrize("sandbox", [{knob: value}], indirect=True)` gives it its own."""
    if not hasattr(request, "param"):
        yield shared_sandbox
        return
    async with SandboxProcess(**(QUICK | request.param)) as process:
        yield process


@pytest.fixture
def shell(sandbox: SandboxProcess, tmp_path: Path) -> Shell:
    """A folder and an environment in which the command line talks to the sandbox."""
    return Shell(tmp_path, {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key})


@pytest.fixture
def bare_shell(tmp_path: Path) -> Shell:
    """A folder and an environment without key and address."""
    return Shell(tmp_path, {})
