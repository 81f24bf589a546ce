"""Compare the versions of Python that were tested (the arguments) with those that `pyproject.toml` declares."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
matches = (re.fullmatch(r"Programming Language :: Python :: (\d+\.\d+)", each) for each in project["classifiers"])
declared, tested = [match[1] for match in matches if match], sys.argv[1:]
sys.stdout.write(f"tested on Python {', '.join(tested)}; declared: {', '.join(declared)}\n")
if missing := [version for version in tested if version not in declared]:
    sys.exit(f"pyproject.toml does not declare Python {', '.join(missing)}, which passes")
if missing := [version for version in declared if version not in tested]:
    sys.stdout.write(f"declared and not tested here: Python {', '.join(missing)}\n")
