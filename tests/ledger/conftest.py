"""Fixtures of the ledger tests. Ledgers are files with a thread: they need real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the ledger of a test."""
    return tmp_path / "ledger.db"
