"""The CPU of `omni-async batch` beside that of a script with the library that makes the same clips; in real time.

Both read a file of prompts and write to a folder of their own. The command has no terminal. Its figure and that of the
script are the user and system time of the whole process, imports included. They alternate, against one sandbox.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.interpreter import cpu_of, environment
from omni_async.sandbox import SandboxProcess

_ROOT = Path(__file__).parent.parent
_SCRIPT = """\
import asyncio, sys
from pathlib import Path
from omni_async import OmniClient

async def main():
    prompts = Path(sys.argv[1]).read_text().splitlines()
    async with OmniClient(output_dir=sys.argv[2]) as client:
        async for job in client.as_completed(prompts):
            await job

asyncio.run(main())
"""


async def _measure(jobs: int, rounds: int, duration: float) -> dict[str, list[float]]:
    """Return the seconds of CPU of each run, after one of each that is dropped."""
    used: dict[str, list[float]] = {"omni-async batch": [], "script": []}
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as temporary:
        folder = Path(temporary)
        script, prompts = folder / "script.py", folder / "prompts.txt"
        script.write_text(_SCRIPT, encoding="utf-8")
        async with SandboxProcess(prerendered=True, median=duration) as sandbox:
            server = {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}
            path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
            variables = environment(folder / "cache", PYTHONPATH=path, **server)
            for number in range(rounds + 1):
                count = jobs if number else 5
                lines = (f"clip {each} of round {number}\n" for each in range(count))
                prompts.write_text("".join(lines), encoding="utf-8")
                for name in used if number % 2 else reversed(used):
                    clips = folder / f"{number} {name}"
                    ours = ["-m", "omni_async", "batch", str(prompts), "-o", str(clips)]
                    arguments = [str(script), str(prompts), str(clips)] if name == "script" else ours
                    seconds = await asyncio.to_thread(cpu_of, arguments, variables, folder)
                    assert len(list(clips.glob("*.mp4"))) == count
                    if number:
                        used[name].append(seconds)
    return used


def measure(figures: Figures) -> None:
    """Run both, in several rounds."""
    jobs, rounds = by_size(figures, 10, 1000, 1000), by_size(figures, 1, 3, 9)
    used = asyncio.run(_measure(jobs, rounds, 0.2 if jobs < 1000 else 8.0))
    for name, seconds in used.items():
        cells = {"CPU s": median(seconds), "from": min(seconds), "to": max(seconds)}
        figures.rows.append({"program": name, "jobs": jobs, **cells})
    ratios = tuple(ours / script for ours, script in zip(*used.values(), strict=True))
    figures.targets.append(Target("CPU of the command / the same work with the library", 1.05, ratios))


if __name__ == "__main__":
    run("command", "The command beside the library", measure)
