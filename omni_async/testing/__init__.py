"""For tests of programs that use omni_async: a sandbox in a thread, a server in memory, and a clock that jumps."""

from __future__ import annotations

from .clock import Deadlock, VirtualClock, VirtualTimeLoop, inline_threads
from .fixtures import client_factory, settings_of_markers
from .memory_client import MemoryClient
from .memory_server import MemoryServer
from .records import MemoryTask, ReceivedSubmit
from .sandbox_thread import SandboxThread

__all__ = [
    "Deadlock",
    "MemoryClient",
    "MemoryServer",
    "MemoryTask",
    "ReceivedSubmit",
    "SandboxThread",
    "VirtualClock",
    "VirtualTimeLoop",
    "client_factory",
    "inline_threads",
    "settings_of_markers",
]
