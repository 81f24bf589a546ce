"""The standard streams of the process: some may be closed, and a terminal or a pipe may go away at any time."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_DESCRIPTORS = {"stdin": 0, "stdout": 1, "stderr": 2}


def prepare_streams() -> None:
    """Give each standard stream that is closed (`>&-`) the null device, and let all escape what they cannot encode.

    A descriptor that is left free goes to the next file that is opened, such as the ledger: what is meant for stderr
    would be written into it.
    """
    for name, descriptor in _DESCRIPTORS.items():
        try:
            os.fstat(descriptor)
        except OSError:
            _open_null_device(descriptor)
        if getattr(sys, name) is None:
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def finish_streams() -> None:
    """Flush both streams. What one no longer accepts is dropped: else the interpreter would report it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop_output(stream)


def drop_output(stream: TextIO) -> None:
    """Point a stream at the null device, because what it led to is gone."""
    with suppress(OSError, ValueError):
        _open_null_device(stream.fileno())


def _open_null_device(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
