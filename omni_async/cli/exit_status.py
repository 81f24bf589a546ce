"""How the command line ends: its exit status, and the error for what is wrong before anything has been sent."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of every command."""

    DONE = 0  # all clips are there
    FAILED = 1  # some jobs failed
    USAGE = 2  # bad input or usage; nothing was sent
    STOPPED = 3  # stopped early: no credit, bad key, no network; may be run again
    INTERRUPTED = 130  # Ctrl-C


class UsageError(Exception):
    """What the user asked for cannot be done; nothing has been sent. Each argument is one line to tell."""
