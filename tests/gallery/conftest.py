"""A folder of real clips of all kinds, and a browser to look at it with."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Browser, why_not
from tests.support.gallery_folder import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 120.0  # seconds


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder in which a run has left clips of both shapes, a chain, a failure, and a job of which nobody knows.

    The run is made once, by the first worker that needs it; each works on a copy.
    """
    shelf = tmp_path_factory.getbasetemp()
    made = (shelf if worker_id == "master" else shelf.parent) / "gallery run"
    try:
        made.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + PATIENCE
        while not (made / "done").exists():
            assert time.monotonic() < deadline, "the worker that makes the run has not come to an end"
            time.sleep(0.1)
    else:
        asyncio.run(make_folder(made / "clips"))
        (made / "done").touch()
    return shutil.copytree(made / "clips", tmp_path_factory.mktemp("run") / "my clips")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests: it is slow to start."""
    if reason := why_not():
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, which has nothing to complain of when the test ends: no error, nothing that the policy forbids."""
    chromium.begin()
    yield chromium
    assert chromium.complaints() == []


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"
