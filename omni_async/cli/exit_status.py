"""The exit status of every command, and the error for input that stops a command before it submits anything."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of every command."""

    DONE = 0  # all clips are complete
    FAILED = 1  # some jobs failed, or their outcome is unknown
    USAGE = 2  # bad input or usage; nothing was submitted
    STOPPED = 3  # stopped early: no credit, bad key, no network; can be resumed
    INTERRUPTED = 130  # Ctrl-C, SIGTERM or SIGHUP; 128 + SIGINT, as shells report it


class UsageError(Exception):
    """The command cannot do what was asked; nothing has been submitted. Each argument is one line of the message."""
