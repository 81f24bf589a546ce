"""The program of a worker process: a JSON line for each clip on stdin, a JSON line with the outcome on stdout."""

from __future__ import annotations

import json
import os
import shutil
import sys

from .video import ClipSpec, render_clip


def main() -> None:
    """Render until stdin ends, then remove the folder named by the first argument.

    Stdin ends when the sandbox closes it or is killed. In the second case nothing else would remove the folder.
    """
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a codec may print must not get between the results
    for line in sys.stdin.buffer:
        results.write(json.dumps(_render(json.loads(line))) + "\n")
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def _render(fields: dict[str, object]) -> dict[str, object]:
    try:
        render_clip(ClipSpec(**fields))  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 (any error is reported as the outcome)
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


if __name__ == "__main__":
    main()
