"""The time of `import omni_async`, and of `omni-async --help`, beside that of its four dependencies.

Each is measured in a new interpreter, without the start of that, and with the bytecode of all modules compiled before.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.interpreter import environment

_ROOT = Path(__file__).parent.parent
_IMPORTS = {
    "omni_async": "omni_async",
    "its four dependencies": "aiohttp, aiolimiter, anyio, pydantic",
    # pydantic imports most of itself when the first model is defined
    "the four, and one model": "aiohttp, aiolimiter, anyio, pydantic; type('One', (pydantic.BaseModel,), {})",
    "aiohttp alone": "aiohttp",
    "openai": "openai",
    "requests": "requests",
}
_OURS, _DEPENDENCIES, _HELP = "omni_async", "its four dependencies", "omni-async --help"
_CODE = (
    "import time; a, b = time.perf_counter(), time.process_time(); import {}; "
    "print(time.perf_counter() - a, time.process_time() - b)"
)
_CODE_OF_HELP = """\
import sys, time
a, b = time.perf_counter(), time.process_time()
from omni_async.__main__ import main
sys.argv[:] = ["omni-async", "--help"]
try:
    main()
finally:
    print(time.perf_counter() - a, time.process_time() - b)
"""


def _seconds(code: str, variables: dict[str, str]) -> tuple[float, float]:
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_ROOT, env=variables).stdout
    wall, cpu = output.splitlines()[-1].split()
    return float(wall), float(cpu)


def measure(figures: Figures) -> None:
    """Run each in turn, in several rounds."""
    wall, cpu = defaultdict(list), defaultdict(list)
    available = {name: code for name, code in _IMPORTS.items() if find_spec(code.split(",")[0])}
    codes = {name: _CODE.format(code) for name, code in available.items()}
    if find_spec("typer") and find_spec("rich"):
        codes[_HELP] = _CODE_OF_HELP
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as cache:
        variables = environment(Path(cache))
        for number in range(by_size(figures, 1, 7, 21) + 1):
            for name, code in codes.items():
                seconds = _seconds(code, variables)
                if number:  # the first round compiles, reads from the disk and is dropped
                    wall[name].append(1000 * seconds[0])
                    cpu[name].append(1000 * seconds[1])
    for name, times in wall.items():
        figures.rows.append(
            {"what": name, "ms": median(times), "from": min(times), "to": max(times), "CPU ms": median(cpu[name])}
        )
    for name, required in ((_OURS, 1.3), (_HELP, 1.7)):
        if name in cpu:
            ratios = tuple(ours / theirs for ours, theirs in zip(cpu[name], cpu[_DEPENDENCIES], strict=True))
            figures.targets.append(Target(f"CPU: {name} / {_DEPENDENCIES}", required, ratios))


if __name__ == "__main__":
    run("imports", "Importing", measure)
