"""The program: `python -m omni_async` and the `omni-async` command."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line and exit with its status."""
    if not (find_spec("typer") and find_spec("rich")):
        sys.stderr.write("the command line needs: pip install 'omni-async[cli]'\n")
        sys.exit(2)
    from .cli.garbage import begin_start  # noqa: PLC0415 - before the rest is imported

    begin_start()
    from .cli.app import run  # noqa: PLC0415 - it cannot be imported without the extra

    run()


if __name__ == "__main__":
    main()
