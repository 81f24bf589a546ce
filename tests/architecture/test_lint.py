"""The linter, the formatter and the type checker have nothing to report."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .source import ROOT

pytestmark = [pytest.mark.lint, pytest.mark.slow]


def _run(tool: str, *arguments: str) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: pip install 'omni-async[dev]'")
    command = (sys.executable, "-m", tool, *arguments)
    # pyright takes the libraries from the first `python` on PATH, and the package from PYTHONPATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    """The whole checkout passes the linter."""
    _run("ruff", "check", "--no-cache", ".")


def test_everything_is_formatted() -> None:
    """The whole checkout is as the formatter writes it."""
    _run("ruff", "format", "--no-cache", "--check", ".")


def test_everything_is_typed() -> None:
    """Package, tests, examples and benchmarks pass mypy in strict mode."""
    folders = [name for name in ("omni_async", "tests", "examples", "benchmarks") if any((ROOT / name).rglob("*.py"))]
    _run("mypy", "--strict", *folders)


_USERS_PROGRAM = """
from collections.abc import AsyncIterator
from pathlib import Path

from omni_async import OmniClient, VideoRequest, batch, estimate
from omni_async.progress import ProgressDisplay

async def prompts() -> AsyncIterator[str]:
    yield "a fox"

async def main() -> Path:
    cat = VideoRequest(prompt="a cat", images=["cat.jpg", Path("yarn.png")], image_urls=["https://example.com/a.png"])
    VideoRequest(prompt="a cat", images=Path("cat.jpg"), extra={"seed": 1})
    print(estimate(["a fox", cat]).cost)
    batch.Defaults(images=["cat.jpg"])
    async with OmniClient(on_event=ProgressDisplay()) as client:
        async for job in client.as_completed(prompts()):
            print(job.cost, await job)
        async for job in client.as_completed(client.resume()):
            print(job.key)
        return await client.submit(cat).extend("it sleeps")
"""


def test_a_users_program_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the documentation shows passes mypy in strict mode, without pydantic's plugin, which few programs use."""
    program = tmp_path / "program.py"
    program.write_text(_USERS_PROGRAM)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    options = ("--strict", "--config-file", os.devnull, "--cache-dir", str(tmp_path), "--follow-imports", "silent")
    _run("mypy", *options, str(program))


def test_every_public_type_is_known() -> None:
    """A type checker knows the type of every public name, parameter and attribute."""
    version = (sys.executable, "-m", "pyright", "--version")  # its first run installs it, which needs a network
    if subprocess.run(version, cwd=ROOT, capture_output=True, timeout=280, check=False).returncode:
        pytest.skip("pyright is not installed, and could not install itself")
    _run("pyright", "--verifytypes", "omni_async", "--ignoreexternal")
