"""Figures of one benchmark: rows for a table, aims that were set, and the file that both are written to."""

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
class Aim:
    """One figure that was set as an aim: what was reached, in every run."""

    what: str
    aim: float
    runs: tuple[float, ...]
    at_least: bool = False  # else at most

    @property
    def reached(self) -> float:
        """The median of all runs."""
        return statistics.median(self.runs)

    @property
    def holds(self) -> bool:
        """Whether the median keeps to the aim."""
        return self.reached >= self.aim if self.at_least else self.reached <= self.aim

    def told(self) -> dict[str, Any]:
        """Give it as it goes into the table and the file."""
        return {
            "aim": self.what,
            "wanted": f"{'≥' if self.at_least else '≤'} {self.aim:g}",
            "median": self.reached,
            "least": min(self.runs),
            "most": max(self.runs),
            "runs": len(self.runs),
            "holds": "yes" if self.holds else "NO",
        }


@dataclass
class Figures:
    """All that one benchmark has measured."""

    name: str
    title: str
    size: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by plot, then label: x, y in turn
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def show(self) -> None:
        """Print the tables."""
        print(f"\n{self.title} ({self.size}, {self.seconds:.0f} s)\n")
        print(as_table(self.rows))
        if self.aims:
            print("\n" + as_table([aim.told() for aim in self.aims]))
        for note in self.notes:
            print(f"\n{note}")
        sys.stdout.flush()

    def write(self) -> Path:
        """Write everything as JSON."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        content = asdict(self) | {"aims": [aim.told() for aim in self.aims], "machine": machine()}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def machine() -> dict[str, Any]:
    """Tell on what it was measured."""
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
    """Give rows as a table with their keys as its head."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([as_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    drawn = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([drawn[0], "  ".join("-" * width for width in widths), *drawn[1:]])


def as_cell(value: object) -> str:
    """Write one value as a table shows it."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def run(name: str, title: str, measure: Callable[[Figures], object]) -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=title)
    parser.add_argument("--quick", action="store_const", const=QUICK, dest="size", help="one run of each")
    parser.add_argument("--tiny", action="store_const", const=TINY, dest="size", help="only to see that it works")
    figures = Figures(name, title, parser.parse_args().size or FULL)
    start = time.monotonic()
    measure(figures)
    figures.seconds = round(time.monotonic() - start, 1)
    figures.show()
    if figures.size != TINY:
        figures.write()


def by_size(figures: Figures, tiny: int, quick: int, full: int) -> int:
    """Choose a number for the size of this run."""
    return {TINY: tiny, QUICK: quick, FULL: full}[figures.size]
