"""Rooms are tested on virtual time unless a module asks for the real one."""

from __future__ import annotations

import random
from typing import Any

import anyio.to_thread
import pytest

from .clock import VirtualTimeLoop, run_sync


@pytest.fixture
def anyio_backend(monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """An asyncio loop on virtual time, with work for threads done inline and dice that always fall alike."""
    monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)
    random.seed(7)
    return "asyncio", {"loop_factory": VirtualTimeLoop}
