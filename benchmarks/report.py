"""Run all benchmarks one after the other and write a page with their tables and plots.

The page is `benchmarks/results/report.html`.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.figures import RESULTS, as_cell, machine

mpl.use("Agg")
from matplotlib import pyplot as plt

_ROOT = Path(__file__).parent.parent
_NAMES = (
    *("imports", "download", "cpu", "makespan", "checks", "hours", "memory", "ledger", "chains"),
    *("webhooks", "gallery", "fleet", "command", "large_ledger"),
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .7rem 0 1.3rem } td, th { padding: .15rem .8rem .15rem 0; text-align: left }
th { border-bottom: 1px solid #999; font-weight: 600 } td { border-bottom: 1px solid #eee }
img { max-width: 100% } .no { color: #b00; font-weight: 600 } .yes { color: #070 } p.note { color: #555 }
"""


def main() -> None:
    """Run the benchmarks that the command line names and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run each benchmark once")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", default=None, help="run only these; without a name, only write the page"
    )
    arguments = parser.parse_args()
    names = [name for name in _NAMES if Path(__file__).with_name(f"{name}.py").exists()]
    for name in names if arguments.only is None else arguments.only:
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if arguments.quick else [])]
        if subprocess.run(command, cwd=_ROOT, check=False).returncode:
            print(f"\n{name}: failed; the page shows its previous results, if there are any")
    print(f"\nwritten: {write_page([RESULTS / f'{name}.json' for name in names]).relative_to(_ROOT)}")


def write_page(files: list[Path]) -> Path:
    """Write one page with the results of those files that exist, plots included, and return its path."""
    found = [json.loads(file.read_text("utf-8")) for file in files if file.exists()]
    found = [figures for figures in found if {"title", "rows"} <= set(figures)]
    targets = [target for figures in found for target in figures.get("targets", ())]
    parts = [f"<!doctype html><meta charset=utf-8><title>omni_async: benchmarks</title><style>{_STYLE}</style>"]
    parts += ["<h1>omni_async: benchmarks</h1>", f"<p>{_describe(machine())}</p>", "<h2>Targets</h2>", _table(targets)]
    for figures in found:
        parts.append(f"<h2>{html.escape(figures['title'])}</h2>")
        parts.append(_table(figures["rows"]))
        parts += [f"<p class=note>{html.escape(note)}</p>" for note in figures.get("notes", ())]
        parts += [_plot(title, curves) for title, curves in figures.get("curves", {}).items()]
    RESULTS.mkdir(exist_ok=True)
    page = RESULTS / "report.html"
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return page


def _describe(facts: dict[str, Any]) -> str:
    return html.escape("; ".join(f"{name} {value}" for name, value in facts.items()))


def _table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in names) + "</tr>"]
    lines += ["<tr>" + "".join(_cell(as_cell(row.get(name))) for name in names) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _cell(text: str) -> str:
    mark = f' class="{text.lower()}"' if text in {"yes", "NO"} else ""
    return f"<td{mark}>{html.escape(text)}</td>"


def _plot(title: str, curves: dict[str, list[float]]) -> str:
    figure, axes = plt.subplots(figsize=(9, 3.6), dpi=110)
    for label, values in curves.items():
        is_ours = label.startswith("omni_async")
        axes.plot(values[::2], values[1::2], label=label, linewidth=2.2 if is_ours else 1.1)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    plt.close(figure)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{encoded}">'


if __name__ == "__main__":
    main()
