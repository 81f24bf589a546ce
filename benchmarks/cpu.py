"""CPU and memory for each job: a thousand clips, no limits, one contestant after another; in real time.

The bare loop makes as many requests of each kind as the library made, and nothing else. The handwritten program and
the SDK follow all their jobs at once here, so that a run does not take minutes; the snippet has its 64 threads, and
fewer jobs. What care alone costs is shown by the handwritten program with a ledger and clips that are checked and
fsynced, and nothing else.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

from benchmarks.contest import Entry, Outcome, hold
from benchmarks.figures import TINY, Aim, Figures, by_size, run

_ACCOUNT = {"median": 8.0}
_TINY_ACCOUNT = {"median": 0.1}
_OURS, _HAND, _SDK = "omni_async", "handwritten asyncio", "openai SDK"
_CARE, _LOOP = "handwritten, with a ledger and fsync", "bare loop, same requests"


def _round(jobs: int) -> list[Outcome]:
    everybody = {"at_once": jobs}
    ours = hold([Entry(_OURS, "library", jobs, _ACCOUNT)])[0]
    others = [
        Entry("omni_async, ledger in memory", "library", jobs, _ACCOUNT, {"ledger": False}),
        Entry(_HAND, "handwritten", jobs, _ACCOUNT, everybody),
        Entry(_CARE, "careful", jobs, _ACCOUNT, everybody),
        Entry(_LOOP, "loop", jobs, {"median": 0.0}, {"checks": ours.checks}),
        Entry("page's snippet", "snippet", min(jobs, 192), _ACCOUNT),
        Entry(_SDK, "sdk", jobs, _ACCOUNT, everybody),
    ]
    return [ours, *(hold([entry])[0] for entry in others)]


def _tiny_round(jobs: int) -> list[Outcome]:
    ours = hold([Entry(_OURS, "library", jobs, _TINY_ACCOUNT)])[0]
    return [ours, *hold([Entry(_LOOP, "loop", jobs, {"median": 0.0}, {"checks": ours.checks})])]


def measure(figures: Figures) -> None:
    """Hold the rounds."""
    runs: dict[str, list[Outcome]] = defaultdict(list)
    for _ in range(by_size(figures, 1, 1, 5)):
        for outcome in _tiny_round(8) if figures.size == TINY else _round(1000):
            runs[outcome.entry.label].append(outcome)
    for label, outcomes in runs.items():
        costs = [outcome.cpu_ms for outcome in outcomes]
        figures.rows.append(
            {
                "contestant": label,
                "jobs": outcomes[0].entry.jobs,
                "CPU ms per job": statistics.median(costs),
                "from": min(costs),
                "to": max(costs),
                "checks per job": statistics.median(outcome.checks / outcome.entry.jobs for outcome in outcomes),
                "MB": statistics.median(outcome.megabytes for outcome in outcomes),
                "seconds": statistics.median(outcome.seconds for outcome in outcomes),
            }
        )
    for rival, aim in ((_HAND, 1.5), (_SDK, 0.12)):
        if rival in runs:
            figures.aims.append(Aim(f"CPU per job / {rival}", aim, _ratios(runs[_OURS], runs[rival])))
    for one, other in ((_CARE, _HAND), (_OURS, _CARE), (_OURS, _LOOP)):
        if one in runs and other in runs:
            ratio = statistics.median(_ratios(runs[one], runs[other]))
            figures.notes.append(f"CPU per job, {one} / {other}: {ratio:.2f}")


def _ratios(ones: list[Outcome], others: list[Outcome]) -> tuple[float, ...]:
    return tuple(one.cpu_ms / other.cpu_ms for one, other in zip(ones, others, strict=True))


if __name__ == "__main__":
    run("cpu", "CPU and memory for each job", measure)
