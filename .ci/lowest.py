"""Print a constraints file with the lowest version of each dependency that `pyproject.toml` allows."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
groups = {"": project["dependencies"], **project["optional-dependencies"]}
bounds = [re.match(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", line) for lines in groups.values() for line in lines]
lowest: dict[str, str] = {}
for name, version in (match.groups() for match in bounds if match):
    lowest[name] = max(lowest.get(name, "0"), version, key=lambda text: [int(part) for part in text.split(".")])
used = {re.split(r"[>\[]", line)[0] for name, lines in groups.items() if name != "dev" for line in lines}
sys.stdout.write("\n".join(f"{name}=={lowest[name]}" for name in sorted(used & lowest.keys())) + "\n")
