"""The program of the child process that `SandboxProcess` starts."""

from __future__ import annotations

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
