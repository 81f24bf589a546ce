"""The benchmarks run; what they measure is not looked at here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {
    "imports": (),
    "download": (),
    "cpu": ("av",),
    "makespan": ("av",),
    "checks": ("numpy",),
    "hours": (),
    "webhooks": ("av",),
    "gallery": ("av", "jinja2"),
    "chains": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_a_benchmark_runs(name: str) -> None:
    """In its tiny form, each prints a table and ends well."""
    if missing := [module for module in NEEDS[name] if importlib.util.find_spec(module) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "-----" in done.stdout


@pytest.mark.slow
def test_memory_is_measured() -> None:
    """The child that measures memory tells a figure of the right kind."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    command = [sys.executable, "-m", "benchmarks.memory", "--child", "omni_async", "50", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert 0 < json.loads(done.stdout)["bytes"] < 100_000


def test_the_page_holds_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of all aims, the rows, and the plots, in one file."""
    pytest.importorskip("matplotlib")
    report = importlib.import_module("benchmarks.report")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    aim = {"aim": "less <of it>", "wanted": "≤ 1", "median": 2.0, "holds": "NO"}
    rows, curves = [{"contestant": "one", "ms": 1.5}], {"A plot": {"one": [0.0, 1.0, 1.0, 2.0]}}
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"title": "Some", "rows": rows, "aims": [aim], "curves": curves}), "utf-8")
    page = report.write_page([file, tmp_path / "missing.json"]).read_text("utf-8")
    assert all(
        text in page for text in ("less &lt;of it&gt;", '<td class="no">NO</td>', "<td>1.5</td>", "data:image/png")
    )


def test_the_least_possible_is_right() -> None:
    """By hand: what a schedule that knows everything takes on each kind of account."""
    from benchmarks.least import at_once, at_rate, in_windows

    assert at_rate([8, 1, 1], 0.5) == 8
    assert at_rate([1, 1, 8], 0.5) == 12
    assert in_windows([3, 3, 3], 2, 10.0) == 13
    assert at_once([4, 1, 1, 5], 2) == 7


def test_the_optimal_schedule_is_right() -> None:
    """Where all jobs take equally long, one check at that time is best; dear checks are fewer."""
    pytest.importorskip("numpy")
    from benchmarks.optimum import interval_of, optimal

    exact = optimal([10.0] * 5, 1.0)
    assert exact.checks == 1
    assert exact.late < 0.01
    spread = [float(each) for each in range(10, 110)]
    assert optimal(spread, 10.0).checks < optimal(spread, 1.0).checks
    assert optimal(spread, 3.0).product < interval_of(spread, optimal(spread, 3.0).checks).product
