"""For tests of programs that use omni_async: a sandbox in a thread, a server in memory, and a clock that jumps."""

from __future__ import annotations

from .making import client_maker, settings_of_markers
from .thread import SandboxThread

__all__ = ["SandboxThread", "client_maker", "settings_of_markers"]
