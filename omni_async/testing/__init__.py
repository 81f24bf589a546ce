"""Helpers for testing programs that use omni_async: a sandbox in a thread, an in-memory server, virtual time.

Used by the pytest plugin and by users' own tests; see README.md in this folder. `SandboxThread` speaks real HTTP and
serves real clips in real time. `MemoryServer` with `VirtualClock` opens no socket and takes no time.
"""

from __future__ import annotations

from .clock import Deadlock, VirtualClock, VirtualTimeLoop, inline_threads
from .fixtures import client_factory, settings_from_markers
from .memory_client import MemoryClient
from .memory_server import MemoryServer
from .records import PaidTask, ReceivedSubmit
from .sandbox_thread import SandboxThread

__all__ = [
    "Deadlock",
    "MemoryClient",
    "MemoryServer",
    "PaidTask",
    "ReceivedSubmit",
    "SandboxThread",
    "VirtualClock",
    "VirtualTimeLoop",
    "client_factory",
    "inline_threads",
    "settings_from_markers",
]
