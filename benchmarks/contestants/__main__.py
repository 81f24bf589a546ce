"""Run one contestant: `python -m benchmarks.contestants NAME`, with an order as JSON on stdin.

Says "ready" once everything is imported, begins at the next line, and tells what it took.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import sys
import time

from benchmarks.contestants.order import Order


def _megabytes() -> float:
    """Give the most memory it ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)


def main() -> None:
    """Run it."""
    contestant = importlib.import_module(f"benchmarks.contestants.{sys.argv[1]}")
    order = Order(**json.loads(sys.stdin.readline()))
    gc.collect()
    before = _megabytes()
    print("ready", flush=True)
    sys.stdin.readline()
    began, start, cpu = time.time(), time.monotonic(), time.process_time()
    contestant.run(order)
    took, cpu = time.monotonic() - start, time.process_time() - cpu
    told = {"began": began, "seconds": took, "cpu": cpu, "megabytes": _megabytes(), "megabytes_before": before}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
