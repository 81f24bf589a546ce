"""Rooms are tested on virtual time unless a module asks for the real one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.testing import JumpingLoop, inline_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def anyio_backend() -> Iterator[tuple[str, dict[str, Any]]]:
    """An asyncio loop on virtual time, with work for threads done inline and dice that always fall alike."""
    random.seed(7)
    with inline_threads():
        yield "asyncio", {"loop_factory": JumpingLoop}
