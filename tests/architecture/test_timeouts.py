"""A test that hangs fails, whatever it hangs in, and the run goes on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HANGING = """
import asyncio
import threading

async def test_hangs_in_a_thread(anyio_backend):
    await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)

def test_comes_after():
    pass
"""


@pytest.mark.slow
def test_a_test_whose_thread_never_ends_fails_by_name(tmp_path: Path) -> None:
    """Its process is ended with the stacks of all threads on stderr, and another worker runs the tests after it."""
    (tmp_path / "test_both.py").write_text(HANGING)
    (tmp_path / "conftest.py").write_text("import pytest\nanyio_backend = pytest.fixture(lambda: 'asyncio')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    plugins = ("-p", "no:asyncio", "-p", "no:cacheprovider", "-p", "tests.support.timeouts")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "--timeout", "1", *plugins, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "1 failed, 1 passed" in run.stdout
    assert "crashed while running 'test_both.py::test_hangs_in_a_thread'" in run.stdout
    assert "Timeout (0:00:01.25" in run.stderr
