"""The scripts of CI: which interpreters the inner loop runs on, and that what was tested is what is declared."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS = ROOT / ".ci"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir() or sys.platform == "win32", reason="needs a checkout and a shell")


def interpreter(path: Path, answer: str, status: int = 0) -> Path:
    """Write a program that answers the question of the script as an interpreter of some version would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {answer}\nexit {status}\n")
    path.chmod(0o755)
    return path


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with this interpreter."""
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=60, check=False
    )


def test_the_newest_interpreter_of_each_further_version_is_found(tmp_path: Path) -> None:
    """In PATH and among those of pyenv: no older version, no other Python, none that is broken, not this one again."""
    path, pyenv = tmp_path / "bin", tmp_path / "pyenv"
    own = "{}.{}".format(*sys.version_info[:2])
    interpreter(path / f"python{own}", f"cpython {own.replace('.', ' ')} 0")
    interpreter(path / "python3.10", "cpython 3 10 9")
    interpreter(path / "python3.97", "cpython 3 97 1")
    newest = interpreter(pyenv / "versions" / "3.97.2" / "bin" / "python", "cpython 3 97 2")
    interpreter(pyenv / "versions" / "3.96.0" / "bin" / "python", "pypy 3 96 0")
    interpreter(path / "python3.98", "nothing", status=1)
    last = interpreter(path / "python3.99", "cpython 3 99 0")
    interpreter(path / "python3.99-config", "cpython 3 99 1")
    found = script("interpreters.py", PATH=str(path), PYENV_ROOT=str(pyenv))
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [str(newest), str(last)]


def test_what_was_tested_is_declared() -> None:
    """A version that passes and is not declared is an error; one that is declared and was not tested is named."""
    complete = script("declared.py", "3.11", "3.12", "3.13")
    assert (complete.returncode, complete.stderr) == (0, "")
    partial = script("declared.py", "3.11", "3.13")
    assert partial.returncode == 0
    assert "declared and not tested here: Python 3.12" in partial.stdout
    further = script("declared.py", "3.11", "3.99")
    assert further.returncode == 1
    assert "does not declare Python 3.99" in further.stderr
