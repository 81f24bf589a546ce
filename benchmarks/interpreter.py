"""New interpreters that are measured: their environment, and the CPU that one has used from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def environment(cache: Path, **variables: str) -> dict[str, str]:
    """Return an environment whose interpreters keep the bytecode of all modules in a folder.

    So the package is compiled once, as its dependencies were when they were installed, wherever the checkout is and
    whatever `PYTHONDONTWRITEBYTECODE` says.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(cache)} | variables


def cpu_of(arguments: Sequence[str], variables: dict[str, str], folder: Path) -> float:
    """Run the interpreter with these arguments; return the seconds of CPU, user and system, of the whole process."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(output.decode(errors="replace"))
    return used.ru_utime + used.ru_stime
