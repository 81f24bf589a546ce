"""What a peer has to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Assignment:
    """Generate `jobs` clips with one account and write them to a folder.

    `concurrency` bounds the jobs of a program that follows each from submit to clip. `limits` are arguments of
    `omni_async.Limits`. `checks` is the number of status requests that the bare loop and the careful program
    make.
    """

    base_url: str
    openai_url: str
    api_key: str
    folder: str
    jobs: int
    concurrency: int = 64
    limits: dict[str, Any] = field(default_factory=dict)
    has_ledger: bool = True
    checks: int = 0

    def prompts(self) -> list[str]:
        """Return the prompts."""
        return [f"clip {number}" for number in range(self.jobs)]

    def path(self, number: int) -> Path:
        """Return the path of a clip."""
        return Path(self.folder, f"{number}.mp4")
