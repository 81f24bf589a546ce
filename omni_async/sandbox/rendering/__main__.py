"""The worker process: film scripts in as JSON lines, one JSON line back for each clip written."""

from __future__ import annotations

import json
import os
import shutil
import sys

from .video import ClipSpec, render_clip


def main() -> None:
    """Film until stdin ends; then the folder named by the first argument is nobody's any more, and goes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a codec may print must not get among the answers
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_film(json.loads(line))) + "\n")
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def _film(script: dict[str, object]) -> dict[str, object]:
    try:
        render_clip(ClipSpec(**script))  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 (whatever went wrong is the answer)
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


if __name__ == "__main__":
    main()
