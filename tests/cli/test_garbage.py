"""When the program looks for garbage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The number of objects that are left out of the search, and whether there is a search, at the end of the program.
PROGRAM = """\
import atexit, gc, sys
import omni_async.__main__ as program
atexit.register(lambda: print("\\n", gc.isenabled(), gc.get_freeze_count()))
sys.argv[:] = ["omni-async", *sys.argv[1:]]
program.main()
"""


def run(*arguments: str, folder: Path) -> tuple[bool, int]:
    """Run the program with its search for garbage shown at the end."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    environment = {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    is_enabled, frozen = done.stdout.splitlines()[-1].split()
    return is_enabled == "True", int(frozen)


@pytest.mark.slow
def test_a_command_looks_for_garbage_but_not_among_its_modules(tmp_path: Path) -> None:
    """When its work begins, what was imported by then is left out, and the rest is searched as usual."""
    (tmp_path / "p.txt").write_text("a fox\n", encoding="utf-8")
    is_enabled, frozen = run("batch", "p.txt", "--dry-run", folder=tmp_path)
    assert is_enabled
    assert frozen > 10_000


@pytest.mark.slow
def test_help_looks_for_no_garbage(tmp_path: Path) -> None:
    """The list of commands is printed before anything can become garbage."""
    assert run("--help", folder=tmp_path) == (False, 0)


@pytest.mark.slow
def test_the_command_line_in_another_program_changes_nothing() -> None:
    """Without the program's own start, nothing is left out of the search."""
    code = (
        "import gc\nfrom omni_async.cli.app import run_arguments\n"
        "try:\n    run_arguments(['models'])\nexcept SystemExit:\n"
        "    print('\\n', gc.isenabled(), gc.get_freeze_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1].split() == ["True", "0"]
