"""CPU and memory per job: a thousand clips, no limits, one program after the other; in real time.

The bare loop makes as many requests of each kind as the library made, and does nothing else. The handwritten program
and the SDK follow all their jobs concurrently here, so that a run does not take minutes; the snippet has its 64 threads
and fewer jobs. The careful program, with a ledger and checked, fsynced clips, makes as many requests as the library and
keeps the same promises for each job: it runs directly after the library, more often than the others, and the median of
the ratios counts, so that other load on the machine disturbs little.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

from benchmarks.comparison import PeerResult, PeerRun, run_concurrently
from benchmarks.figures import TINY, Figures, Target, by_size, run

# Sandbox settings: the median duration of tasks in seconds.
_ACCOUNT = {"median": 8.0}
_TINY_ACCOUNT = {"median": 0.1}
_LIBRARY, _HANDWRITTEN, _SDK = "omni_async", "handwritten asyncio", "openai SDK"
_CAREFUL, _LOOP = "handwritten, with a ledger and fsync", "bare loop, same requests"


def _round(jobs: int) -> list[PeerResult]:
    all_jobs = {"concurrency": jobs}
    ours = run_concurrently([PeerRun(_LIBRARY, "library", jobs, _ACCOUNT)])[0]
    others = [
        PeerRun("omni_async, ledger in memory", "library", jobs, _ACCOUNT, {"has_ledger": False}),
        PeerRun(_HANDWRITTEN, "handwritten", jobs, _ACCOUNT, all_jobs),
        PeerRun(_CAREFUL, "careful", jobs, _ACCOUNT, all_jobs | {"checks": ours.checks}),
        PeerRun(_LOOP, "bare_loop", jobs, {"median": 0.0}, {"checks": ours.checks}),
        PeerRun("API page's snippet", "snippet", min(jobs, 192), _ACCOUNT),
        PeerRun(_SDK, "openai_sdk", jobs, _ACCOUNT, all_jobs),
    ]
    return [ours, *(run_concurrently([other])[0] for other in others)]


def _pair(jobs: int) -> list[PeerResult]:
    """Run the library and the careful program, one after the other."""
    ours = run_concurrently([PeerRun(_LIBRARY, "library", jobs, _ACCOUNT)])[0]
    careful = PeerRun(_CAREFUL, "careful", jobs, _ACCOUNT, {"concurrency": jobs, "checks": ours.checks})
    return [ours, *run_concurrently([careful])]


def _tiny_round(jobs: int) -> list[PeerResult]:
    ours = run_concurrently([PeerRun(_LIBRARY, "library", jobs, _TINY_ACCOUNT)])[0]
    return [ours, *run_concurrently([PeerRun(_LOOP, "bare_loop", jobs, {"median": 0.0}, {"checks": ours.checks})])]


def measure(figures: Figures) -> None:
    """Run all programs, in several rounds."""
    runs: dict[str, list[PeerResult]] = defaultdict(list)
    for _ in range(by_size(figures, 1, 1, 5)):
        for result in _tiny_round(8) if figures.size == TINY else _round(1000):
            runs[result.run.label].append(result)
    pairs = [_pair(1000) for _ in range(by_size(figures, 0, 3, 9))]
    for label, results in runs.items():
        costs = [result.cpu_ms for result in results]
        figures.rows.append(
            {
                "program": label,
                "jobs": results[0].run.jobs,
                "CPU ms per job": statistics.median(costs),
                "from": min(costs),
                "to": max(costs),
                "checks per job": statistics.median(result.checks / result.run.jobs for result in results),
                "MB": statistics.median(result.megabytes for result in results),
                "seconds": statistics.median(result.seconds for result in results),
            }
        )
    for peer, required in ((_HANDWRITTEN, 1.5), (_SDK, 0.12)):
        if peer in runs:
            figures.targets.append(Target(f"CPU per job / {peer}", required, _ratios(runs[_LIBRARY], runs[peer])))
    if pairs:
        user = tuple(ours.user / careful.user for ours, careful in pairs)
        total = tuple(ours.cpu / careful.cpu for ours, careful in pairs)
        figures.targets.append(Target(f"user time / {_CAREFUL}", 1.3, user))
        figures.targets.append(Target(f"CPU / {_CAREFUL}", 1.15, total))
    for one, other in ((_CAREFUL, _HANDWRITTEN), (_LIBRARY, _LOOP)):
        if one in runs and other in runs:
            ratio = statistics.median(_ratios(runs[one], runs[other]))
            figures.notes.append(f"CPU per job, {one} / {other}: {ratio:.2f}")


def _ratios(ones: list[PeerResult], others: list[PeerResult]) -> tuple[float, ...]:
    return tuple(one.cpu_ms / other.cpu_ms for one, other in zip(ones, others, strict=True))


if __name__ == "__main__":
    run("cpu", "CPU and memory per job", measure)
