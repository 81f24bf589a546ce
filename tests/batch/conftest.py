"""Real time for this folder: its tests read files and use no event loop."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"
