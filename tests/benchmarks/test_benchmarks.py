"""The benchmark programs run, and their calculations are right. What they measure is not checked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markers import long_run
from tests.support.postgres import missing_reason

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {
    "imports": (),
    "command": ("av", "typer", "rich"),
    "large_ledger": ("typer", "rich"),
    "download": (),
    "cpu": ("av",),
    "makespan": ("av",),
    "checks": ("numpy",),
    "hours": (),
    "webhooks": ("av",),
    "gallery": ("av", "jinja2"),
    "chains": (),
    "ledger": ("av",),
    "fleet": ("av", "psycopg", "procrastinate"),
    "capacity": (),
}
LONG = {
    "gallery",
    "fleet",
    "makespan",
    "chains",
    "checks",
    "ledger",
    "capacity",
    "command",
    "large_ledger",
}  # over ten seconds each


@pytest.mark.slow
@pytest.mark.parametrize("name", [long_run(name) if name in LONG else name for name in NEEDS])
def test_a_benchmark_runs(name: str) -> None:
    """With --tiny, each prints a table and exits with status 0."""
    if name == "fleet" and (reason := missing_reason()) is not None:
        pytest.skip(reason)
    if missing := [module for module in NEEDS[name] if importlib.util.find_spec(module) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "-----" in done.stdout


@pytest.mark.slow
def test_the_memory_benchmark_measures_bytes_per_job() -> None:
    """The child process that measures memory reports a plausible number of bytes per job."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    command = [sys.executable, "-m", "benchmarks.memory", "--child", "omni_async", "50", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert 0 < json.loads(done.stdout)["bytes"] < 100_000


def test_the_report_contains_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is one file with a table of all targets, the rows and the plots."""
    pytest.importorskip("matplotlib")
    report = importlib.import_module("benchmarks.report")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    target = {"target": "less <of it>", "required": "≤ 1", "median": 2.0, "met": "NO"}
    rows, curves = [{"program": "one", "ms": 1.5}], {"A plot": {"one": [0.0, 1.0, 1.0, 2.0]}}
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"title": "Some", "rows": rows, "targets": [target], "curves": curves}), "utf-8")
    page = report.write_page([file, tmp_path / "missing.json"]).read_text("utf-8")
    assert all(
        text in page for text in ("less &lt;of it&gt;", '<td class="no">NO</td>', "<td>1.5</td>", "data:image/png")
    )


def test_the_lower_bounds_are_right() -> None:
    """They equal makespans calculated by hand for each kind of account."""
    from benchmarks.lower_bound import concurrency_limited, rate_limited, windowed

    assert rate_limited([8, 1, 1], 0.5) == 8
    assert rate_limited([1, 1, 8], 0.5) == 12
    assert windowed([3, 3, 3], 2, 10.0) == 13
    assert concurrency_limited([4, 1, 1, 5], 2) == 7


def test_the_optimal_schedule_of_checks_is_right() -> None:
    """One check is best where all jobs take equally long; the higher the cost of a check, the fewer checks."""
    pytest.importorskip("numpy")
    from benchmarks.optimum import interval_with_checks, optimal

    exact = optimal([10.0] * 5, 1.0)
    assert exact.checks == 1
    assert exact.delay < 0.01
    spread = [float(each) for each in range(10, 110)]
    assert optimal(spread, 10.0).checks < optimal(spread, 1.0).checks
    assert optimal(spread, 3.0).product < interval_with_checks(spread, optimal(spread, 3.0).checks).product
