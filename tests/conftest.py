"""Every test of a coroutine runs on asyncio."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop this library is for."""
    return "asyncio"
