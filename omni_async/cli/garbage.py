"""When the process collects garbage: not while it starts, and later not among what it has imported.

Imported modules stay until the process ends, and are most of its objects: scanning them again and again took a tenth of
the CPU of `--help` and of a batch of 1,000 jobs.
"""

from __future__ import annotations

import gc


def begin_start() -> None:
    """Collect no garbage until `end_start` is called. Only the program itself calls this."""
    gc.disable()


def end_start() -> None:
    """Collect garbage again, among the objects that are made from now on. Without `begin_start` nothing changes."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def leave_out_imported() -> None:
    """Also leave out what was imported after `end_start`; nothing changes unless `end_start` left out something."""
    if gc.get_freeze_count():
        gc.freeze()
