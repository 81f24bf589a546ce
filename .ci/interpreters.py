"""Print the interpreters beside the one that runs this, one path for each further version that the project supports.

They are looked for in PATH (python3.12, python3.13, ...) and among those of pyenv. Of each version the newest is taken.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
LOWEST = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
QUESTION = "import sys, venv, ensurepip; print(sys.implementation.name, *sys.version_info[:3])"


def candidates() -> list[Path]:
    """Return all programs that may be an interpreter."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [
        each for folder in folders for each in folder.glob("python3.*") if re.fullmatch(r"python3\.\d+", each.name)
    ]
    return [*found, *pyenv.glob("versions/3.*/bin/python")]


def version_of(program: Path) -> tuple[int, ...] | None:
    """Return the version of a CPython that can make virtual environments; None for anything else."""
    try:
        # A program that bears the name of an interpreter.
        done = subprocess.run([program, "-c", QUESTION], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    name, *numbers = done.stdout.split()
    return tuple(map(int, numbers)) if name == "cpython" else None


def main() -> None:
    """Print the path of the newest interpreter of each further version, the lowest version first."""
    newest: dict[tuple[int, ...], tuple[tuple[int, ...], Path]] = {}
    for program in candidates():
        version = version_of(program)
        if version is None or version[:2] < LOWEST or version[:2] == sys.version_info[:2]:
            continue
        if version[:2] not in newest or newest[version[:2]][0] < version:
            newest[version[:2]] = version, program
    for _, program in sorted(newest.values()):
        sys.stdout.write(f"{program}\n")


if __name__ == "__main__":
    main()
