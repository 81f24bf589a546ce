"""Prompt files for tests: write one, read it back, or list what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from omni_async import batch

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file with exactly this content and return its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder: Path, name: str, content: str | bytes) -> list[batch.Line]:
    """Return the lines of a file with this content."""
    return batch.read(write(folder, name, content))


def problems(folder: Path, name: str, content: str | bytes) -> list[tuple[int, str]]:
    """Return the problems of an invalid file with this content, as line numbers and reasons."""
    with pytest.raises(batch.InvalidBatchFile) as caught:
        read(folder, name, content)
    assert all(isinstance(problem, batch.Problem) for problem in caught.value.problems)
    return [(problem.number, problem.reason) for problem in caught.value.problems]


def as_jsonl(*records: object) -> str:
    """Return records as the text of a .jsonl file."""
    return "".join(json.dumps(record) + "\n" for record in records)
