"""The sandbox is a server: its tests run in real time. Those with default settings share one sandbox per module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.sandbox_client import SandboxClient, open_sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use real time, and one event loop per module, so that its tests can share a sandbox."""
    return "asyncio"


@pytest.fixture(scope="module")
async def shared_sandbox() -> AsyncIterator[SandboxClient]:
    """Serve a sandbox with default settings."""
    async with open_sandbox() as client:
        yield client


@pytest.fixture
async def client(shared_sandbox: SandboxClient) -> SandboxClient:
    """Return a client of the shared sandbox with an API key of its own; the record is empty."""
    return await shared_sandbox.fresh()
