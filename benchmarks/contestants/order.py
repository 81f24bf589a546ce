"""What a contestant is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Order:
    """So many clips of one account into one folder."""

    base_url: str
    openai_url: str
    api_key: str
    folder: str
    jobs: int
    at_once: int = 64
    limits: dict[str, Any] = field(default_factory=dict)  # what the library is told
    ledger: bool = True
    checks: int = 0  # what the bare loop makes of each kind
    refused: int = 0

    def prompts(self) -> list[str]:
        """Give the prompts."""
        return [f"clip {number}" for number in range(self.jobs)]

    def path(self, number: int) -> Path:
        """Give where a clip goes."""
        return Path(self.folder, f"{number}.mp4")
