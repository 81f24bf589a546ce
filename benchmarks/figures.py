"""The results of one benchmark: the rows of its table, the targets with what was reached, and the file for both.

Also the command line that all benchmarks but `ledger` share.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).parent / "results"
TINY, QUICK, FULL = "tiny", "quick", "full"


@dataclass(frozen=True)
class Target:
    """A target for one figure, and the figure of each run."""

    what: str
    required: float
    runs: tuple[float, ...]
    at_least: bool = False  # otherwise at most

    @property
    def median(self) -> float:
        """The median of all runs."""
        return statistics.median(self.runs)

    @property
    def is_met(self) -> bool:
        """Whether the median meets the target."""
        return self.median >= self.required if self.at_least else self.median <= self.required

    def as_row(self) -> dict[str, Any]:
        """Return the row for the table and the file."""
        return {
            "target": self.what,
            "required": f"{'≥' if self.at_least else '≤'} {self.required:g}",
            "median": self.median,
            "min": min(self.runs),
            "max": max(self.runs),
            "runs": len(self.runs),
            "met": "yes" if self.is_met else "NO",
        }


@dataclass
class Figures:
    """Everything that one benchmark has measured."""

    name: str
    title: str
    size: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by plot, then label: x and y alternating
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def show(self) -> None:
        """Print the tables."""
        print(f"\n{self.title} ({self.size}, {self.seconds:.0f} s)\n")
        print(as_table(self.rows))
        if self.targets:
            print("\n" + as_table([target.as_row() for target in self.targets]))
        for note in self.notes:
            print(f"\n{note}")
        sys.stdout.flush()

    def write(self) -> Path:
        """Write everything as JSON."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        content = asdict(self) | {"targets": [target.as_row() for target in self.targets], "machine": machine()}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def machine() -> dict[str, Any]:
    """Return a description of the machine and the versions."""
    packages = ("aiohttp", "aiolimiter", "anyio", "pydantic")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a text table whose header are their keys."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([as_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    formatted = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    return "\n".join([formatted[0], "  ".join("-" * width for width in widths), *formatted[1:]])


def as_cell(value: object) -> str:
    """Return a value as tables show it."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def run(name: str, title: str, measure: Callable[[Figures], object]) -> None:
    """Run a benchmark: read the command line, measure, print the tables and write the file."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=title)
    parser.add_argument("--quick", action="store_const", const=QUICK, dest="size", help="one run of each")
    parser.add_argument(
        "--tiny",
        action="store_const",
        const=TINY,
        dest="size",
        help="a minimal run that only shows that it works; writes no file",
    )
    figures = Figures(name, title, parser.parse_args().size or FULL)
    start = time.monotonic()
    measure(figures)
    figures.seconds = round(time.monotonic() - start, 1)
    figures.show()
    if figures.size != TINY:
        figures.write()


def by_size(figures: Figures, tiny: int, quick: int, full: int) -> int:
    """Return the number for the size of this run."""
    return {TINY: tiny, QUICK: quick, FULL: full}[figures.size]
