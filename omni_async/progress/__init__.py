"""The progress of a client's jobs, for programs and notebooks: `OmniClient(on_event=ProgressDisplay())`."""

from __future__ import annotations

from .display import ProgressDisplay

__all__ = ["ProgressDisplay"]
