"""Prompt files are files: real time."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"
