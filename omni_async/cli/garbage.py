"""When the process looks for garbage: not while it starts, and later not among what it has imported.

Imported modules stay until the process ends, and are most of its objects: to look through them again and again cost a
tenth of the CPU of `--help` and of a batch of 1,000 jobs.
"""

from __future__ import annotations

import gc


def begin_start() -> None:
    """Look for no garbage until `end_start` is called. Only the program itself calls this."""
    gc.disable()


def end_start() -> None:
    """Look for garbage again, among the objects that are made from now on. Without `begin_start` nothing changes."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def leave_out_imported() -> None:
    """Leave out what was imported after `end_start`, too; nothing changes unless that has left out something."""
    if gc.get_freeze_count():
        gc.freeze()
