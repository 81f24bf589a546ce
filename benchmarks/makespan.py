"""The makespan of a hundred clips on accounts with unknown limits, against its lower bound; in real time.

In each round every program has its own account, with the same durations in the same order. The library runs on all
accounts at the same time, then the handwritten programs, then the SDK: they sleep most of the time.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace
from typing import Any

from benchmarks.comparison import PeerResult, PeerRun, run_concurrently
from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.lower_bound import LOWER_BOUNDS

# Settings of the sandbox. `median` is the duration of a task in seconds.
_ACCOUNTS: dict[str, dict[str, Any]] = {
    "4 per second": {"per_minute": 240, "median": 8.0},
    "30 per 10 s": {"window": (30, 10.0), "median": 8.0},
    "12 concurrent": {"max_in_flight": 12, "median": 5.0},
}
_CONFIGURED_LIMITS: dict[str, dict[str, Any]] = {
    "4 per second": {"submits_per_minute": 240},
    "12 concurrent": {"max_in_flight": 12},
}
_PEERS = [[("handwritten asyncio", "handwritten"), ("API page's snippet", "snippet")], [("openai SDK", "openai_sdk")]]
_OURS, _OURS_CONFIGURED, _OURS_GUESSED = "omni_async", "omni_async, limit configured", "omni_async, progress guessed"
_TARGETS = {  # makespan / lower bound, and responses with status 429 per clip; at most
    ("4 per second", _OURS): (1.10, 0.05),
    ("30 per 10 s", _OURS): (1.15, 0.05),
    ("12 concurrent", _OURS): (1.15, 0.10),
    ("4 per second", _OURS_CONFIGURED): (1.05, 0.0),
    ("12 concurrent", _OURS_CONFIGURED): (1.05, 0.0),
}


def _library_runs(jobs: int, seed: int, speed: float) -> list[PeerRun]:
    unknown = _on_all_accounts(_OURS, "library", jobs, seed, speed)
    configured = _on_all_accounts(_OURS_CONFIGURED, "library", jobs, seed, speed)
    known = [(each, _CONFIGURED_LIMITS.get(each.label.split("/")[0])) for each in configured]
    return [*unknown, *(replace(each, options={"limits": limits}) for each, limits in known if limits)]


def _library_runs_guessed_progress(jobs: int, seed: int, speed: float) -> list[PeerRun]:
    """Return runs of the library where the reported progress predicts nothing: it counts up to an estimate."""
    runs = _on_all_accounts(_OURS_GUESSED, "library", jobs, seed, speed)
    return [replace(each, account=each.account | {"progress": "guess"}) for each in runs]


def _on_all_accounts(label: str, peer: str, jobs: int, seed: int, speed: float) -> list[PeerRun]:
    return [
        PeerRun(f"{name}/{label}", peer, jobs, limits | {"seed": seed, "speed": speed})
        for name, limits in _ACCOUNTS.items()
    ]


def _ratio(result: PeerResult) -> float:
    return result.seconds / LOWER_BOUNDS[result.run.label.split("/")[0]](result.durations)


def measure(figures: Figures) -> None:
    """Run all programs, in several rounds."""
    jobs, rounds = by_size(figures, 4, 100, 100), by_size(figures, 1, 1, 5)
    speed, peers = by_size(figures, 20, 1, 1), _PEERS[: by_size(figures, 0, 9, 9)]
    runs: dict[str, list[PeerResult]] = defaultdict(list)
    for seed in range(rounds):
        others = [[each for peer in group for each in _on_all_accounts(*peer, jobs, seed, speed)] for group in peers]
        ours = [_library_runs(jobs, seed, speed), _library_runs_guessed_progress(jobs, seed, speed)]
        for result in [result for group in [*ours, *others] for result in run_concurrently(group)]:
            runs[result.run.label].append(result)
    for label, results in runs.items():
        account, program = label.split("/")
        _add_rows(figures, account, program, results)
    figures.notes.append(
        "Lower bound: each job is accepted as soon as the account allows and its clip is there as soon as it is done."
    )


def _add_rows(figures: Figures, account: str, program: str, results: list[PeerResult]) -> None:
    ratios = [_ratio(result) for result in results]
    refusals = [result.refused / result.run.jobs for result in results]
    figures.rows.append(
        {
            "account": account,
            "program": program,
            "seconds": statistics.median(result.seconds for result in results),
            "/ lower bound": statistics.median(ratios),
            "from": min(ratios),
            "to": max(ratios),
            "429s per clip": statistics.median(refusals),
            "checks per clip": statistics.median(result.checks / result.run.jobs for result in results),
        }
    )
    figures.curves.setdefault(f"Clips accepted: {account}", {})[program] = _curve(results[0])
    if required := _TARGETS.get((account, program)):
        figures.targets.append(Target(f"{account}: makespan / lower bound ({program})", required[0], tuple(ratios)))
        figures.targets.append(Target(f"{account}: 429s per clip ({program})", required[1], tuple(refusals)))


def _curve(result: PeerResult) -> list[float]:
    """Return x and y alternating: seconds, and the number of jobs accepted by then."""
    return [
        round(value, 2)
        for number, (start, _) in enumerate(result.task_times, 1)
        for value in (start - result.started_at, number)
    ]


if __name__ == "__main__":
    run("makespan", "Makespan against the lower bound, with unknown limits", measure)
