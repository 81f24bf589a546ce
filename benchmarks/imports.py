"""The time of `import omni_async` beside that of its four dependencies, each in a new interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.figures import Figures, Target, by_size, run

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
_CODE = (
    "import time; a, b = time.perf_counter(), time.process_time(); import {}; "
    "print(time.perf_counter() - a, time.process_time() - b)"
)


def _seconds(imports: str) -> tuple[float, float]:
    command = [sys.executable, "-c", _CODE.format(imports)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_ROOT).stdout.split()
    return float(output[0]), float(output[1])


def measure(figures: Figures) -> None:
    """Import each in turn, in several rounds."""
    wall, cpu = defaultdict(list), defaultdict(list)
    available = {name: code for name, code in _IMPORTS.items() if find_spec(code.split(",")[0])}
    for number in range(by_size(figures, 1, 7, 21) + 1):
        for name, code in available.items():
            seconds = _seconds(code)
            if number:  # the first round reads from the disk and is dropped
                wall[name].append(1000 * seconds[0])
                cpu[name].append(1000 * seconds[1])
    for name in available:
        times = wall[name]
        figures.rows.append(
            {"import": name, "ms": median(times), "from": min(times), "to": max(times), "CPU ms": median(cpu[name])}
        )
    pairs = zip(cpu["omni_async"], cpu["its four dependencies"], strict=True)
    figures.targets.append(Target("import: CPU of omni_async / its dependencies", 1.3, tuple(a / b for a, b in pairs)))
    pairs = zip(wall["omni_async"], wall["its four dependencies"], strict=True)
    figures.targets.append(Target("import: time of omni_async / its dependencies", 1.3, tuple(a / b for a, b in pairs)))


if __name__ == "__main__":
    run("imports", "Importing", measure)
