"""A sandbox that is quick, and the command line as a process beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omni_async.sandbox import SandboxProcess

from .shell import Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUICK = {"median": 0.1, "prerendered": True, "api_key": "sk-good"}


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[SandboxProcess]:
    """Serve for one test; `@pytest.mark.parametrize("sandbox", [{knob: value}], indirect=True)` turns knobs."""
    async with SandboxProcess(**(QUICK | getattr(request, "param", {}))) as process:
        yield process


@pytest.fixture
def shell(sandbox: SandboxProcess, tmp_path: Path) -> Shell:
    """A folder and an environment in which the command line talks to the sandbox."""
    return Shell(tmp_path, {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key})


@pytest.fixture
def bare_shell(tmp_path: Path) -> Shell:
    """A folder and an environment without key and address."""
    return Shell(tmp_path, {})
