"""Fixtures of the fleet tests. They use a real Postgres: they need real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.fleet_clips import FleetRows


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture
async def rows(fleet_url: str) -> AsyncIterator[FleetRows]:
    """Yield an account with a host of clips."""
    from tests.support.fleet_clips import fleet_rows  # needs the extra `fleet`

    async with fleet_rows(fleet_url) as rows:
        yield rows
