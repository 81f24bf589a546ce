"""How long a hundred clips take on accounts whose limits nobody tells, against the least possible; in real time.

Each contestant of a round has an account of its own, which gives the same durations in the same order. The library runs
on all accounts at the same time, then the programs do, and then the SDK: they sleep most of the time.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace
from typing import Any

from benchmarks.contest import Entry, Outcome, hold
from benchmarks.figures import Aim, Figures, by_size, run
from benchmarks.least import LEAST

_ACCOUNTS: dict[str, dict[str, Any]] = {
    "4 a second": {"per_minute": 240, "median": 8.0},
    "30 in 10 s": {"window": (30, 10.0), "median": 8.0},
    "12 at once": {"max_in_flight": 12, "median": 5.0},
}
_TOLD: dict[str, dict[str, Any]] = {
    "4 a second": {"submits_per_minute": 240},
    "12 at once": {"max_in_flight": 12},
}
_RIVALS = [[("handwritten asyncio", "handwritten"), ("page's snippet", "snippet")], [("openai SDK", "sdk")]]
_OURS, _OURS_TOLD, _OURS_GUESSED = "omni_async", "omni_async, limit told", "omni_async, progress guessed"
_AIMS = {  # makespan against the least possible, refused submits for each clip
    ("4 a second", _OURS): (1.10, 0.05),
    ("30 in 10 s", _OURS): (1.15, 0.05),
    ("12 at once", _OURS): (1.15, 0.10),
    ("4 a second", _OURS_TOLD): (1.05, 0.0),
    ("12 at once", _OURS_TOLD): (1.05, 0.0),
}


def _ours(jobs: int, seed: int, speed: float) -> list[Entry]:
    untold = _on_all_accounts(_OURS, "library", jobs, seed, speed)
    told = _on_all_accounts(_OURS_TOLD, "library", jobs, seed, speed)
    known = [(each, _TOLD.get(each.label.split("/")[0])) for each in told]
    return [*untold, *(replace(each, order={"limits": limits}) for each, limits in known if limits)]


def _ours_guessed(jobs: int, seed: int, speed: float) -> list[Entry]:
    """Our client, where the server's word about its progress foretells nothing: it counts up to an estimate."""
    entries = _on_all_accounts(_OURS_GUESSED, "library", jobs, seed, speed)
    return [replace(each, account=each.account | {"progress": "guess"}) for each in entries]


def _on_all_accounts(label: str, contestant: str, jobs: int, seed: int, speed: float) -> list[Entry]:
    return [
        Entry(f"{name}/{label}", contestant, jobs, limits | {"seed": seed, "speed": speed})
        for name, limits in _ACCOUNTS.items()
    ]


def _ratio(outcome: Outcome) -> float:
    return outcome.seconds / LEAST[outcome.entry.label.split("/")[0]](outcome.durations)


def measure(figures: Figures) -> None:
    """Hold the rounds."""
    jobs, rounds = by_size(figures, 4, 100, 100), by_size(figures, 1, 1, 5)
    speed, rivals = by_size(figures, 20, 1, 1), _RIVALS[: by_size(figures, 0, 9, 9)]
    runs: dict[str, list[Outcome]] = defaultdict(list)
    for seed in range(rounds):
        races = [[entry for each in race for entry in _on_all_accounts(*each, jobs, seed, speed)] for race in rivals]
        ours = [_ours(jobs, seed, speed), _ours_guessed(jobs, seed, speed)]
        for outcome in [outcome for race in [*ours, *races] for outcome in hold(race)]:
            runs[outcome.entry.label].append(outcome)
    for label, outcomes in runs.items():
        account, contestant = label.split("/")
        _take_in(figures, account, contestant, outcomes)
    figures.notes.append(
        "Least possible: every job accepted the moment the account allows, each clip there the moment it is made."
    )


def _take_in(figures: Figures, account: str, contestant: str, outcomes: list[Outcome]) -> None:
    ratios = [_ratio(outcome) for outcome in outcomes]
    refused = [outcome.refused / outcome.entry.jobs for outcome in outcomes]
    figures.rows.append(
        {
            "account": account,
            "contestant": contestant,
            "seconds": statistics.median(outcome.seconds for outcome in outcomes),
            "/ least": statistics.median(ratios),
            "from": min(ratios),
            "to": max(ratios),
            "refused per clip": statistics.median(refused),
            "checks per clip": statistics.median(outcome.checks / outcome.entry.jobs for outcome in outcomes),
        }
    )
    figures.curves.setdefault(f"Clips accepted: {account}", {})[contestant] = _curve(outcomes[0])
    if aims := _AIMS.get((account, contestant)):
        figures.aims.append(Aim(f"{account}: makespan / least ({contestant})", aims[0], tuple(ratios)))
        figures.aims.append(Aim(f"{account}: refused per clip ({contestant})", aims[1], tuple(refused)))


def _curve(outcome: Outcome) -> list[float]:
    """Give x and y in turn: seconds, and how many were accepted by then."""
    return [
        round(value, 2)
        for number, (start, _) in enumerate(outcome.lives, 1)
        for value in (start - outcome.began, number)
    ]


if __name__ == "__main__":
    run("makespan", "Makespan against the least possible, limits not told", measure)
