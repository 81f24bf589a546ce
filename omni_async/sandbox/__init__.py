"""A local server that speaks the API and makes real MP4s."""

from __future__ import annotations

from .command import main, serve
from .faults import FAULTS
from .process import SandboxProcess
from .record import Record, TaskRecord
from .server import Sandbox
from .settings import SandboxSettings

__all__ = ["FAULTS", "Record", "Sandbox", "SandboxProcess", "SandboxSettings", "TaskRecord", "main", "serve"]
