"""A local server that speaks the API and makes real clips, for trying things out and for tests."""

from __future__ import annotations

from .command import serve
from .faults import FAULTS
from .process import SandboxProcess
from .record import SandboxRecord, TaskRecord
from .server import Sandbox
from .settings import CHOICES, SandboxSettings

__all__ = ["CHOICES", "FAULTS", "Sandbox", "SandboxProcess", "SandboxRecord", "SandboxSettings", "TaskRecord", "serve"]
