"""For tests of programs that use omni_async: a sandbox in a thread, a server in memory, and a clock that jumps."""

from __future__ import annotations

from .clock import JumpingClock, JumpingLoop, Stuck, inline_threads
from .fixtures import client_factory, settings_of_markers
from .memory_client import MemoryClient
from .memory_server import MemoryServer
from .records import MemoryPost, MemoryTask
from .sandbox_thread import SandboxThread

__all__ = [
    "JumpingClock",
    "JumpingLoop",
    "MemoryClient",
    "MemoryPost",
    "MemoryServer",
    "MemoryTask",
    "SandboxThread",
    "Stuck",
    "client_factory",
    "inline_threads",
    "settings_of_markers",
]
