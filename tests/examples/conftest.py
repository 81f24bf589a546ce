"""Real time for this folder: the programs run as processes."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"
