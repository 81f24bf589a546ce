"""Fixtures of the fleet tests. They use a real Postgres: they need real time."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"
