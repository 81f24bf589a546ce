"""Run one peer: `python -m benchmarks.peers NAME`, with an assignment as JSON on stdin.

Prints "ready" when everything is imported, starts at the next line of stdin, and prints what it used as JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time

from benchmarks.peers.assignment import Assignment


def _megabytes() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)


def main() -> None:
    """Run the peer that the command line names."""
    peer = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
    assignment = Assignment(**json.loads(sys.stdin.readline()))
    gc.collect()
    before = _megabytes()
    print("ready", flush=True)
    sys.stdin.readline()
    started_at, start, used = time.time(), time.monotonic(), os.times()
    peer.run(assignment)
    seconds, total = time.monotonic() - start, os.times()
    user = total.user - used.user
    measured = {
        "started_at": started_at,
        "seconds": seconds,
        "cpu": user + total.system - used.system,
        "user": user,
        "megabytes": _megabytes(),
        "megabytes_before": before,
    }
    print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
