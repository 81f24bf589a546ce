"""Real time for this folder: sandboxes in threads do not follow a virtual clock."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"
