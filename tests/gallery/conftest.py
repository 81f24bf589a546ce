"""Fixtures of the gallery tests: a folder of real clips, and a browser."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Browser, reason_without_browser
from tests.support.gallery_folder import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT = 120.0  # seconds for another worker to make the folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder with clips of both shapes, a chain, a failed job and one whose outcome is unknown.

    The first worker that needs it makes it; each worker gets a copy.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base if worker_id == "master" else base.parent) / "gallery run"
    try:
        made.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + TIMEOUT
        while not (made / "done").exists():
            assert time.monotonic() < deadline, "the worker that makes the folder has not finished"
            time.sleep(0.1)
    else:
        asyncio.run(make_folder(made / "clips"))
        (made / "done").touch()
    return shutil.copytree(made / "clips", tmp_path_factory.mktemp("run") / "my clips")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start one browser for all tests, because it is slow to start."""
    if reason := reason_without_browser():
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Yield a browser. Its console must be empty at the end: no error, and nothing that the policy blocked."""
    chromium.reset()
    yield chromium
    assert chromium.console_errors() == []


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use real time, and one event loop per module, so that its tests can share a sandbox."""
    return "asyncio"
