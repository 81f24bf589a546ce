"""Lines that extend each other: cycles, missing lines, and inherited models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.prompt_files import as_jsonl, problems, read

if TYPE_CHECKING:
    from pathlib import Path

NEW = "gemini-omni-1.1-flash"


def test_a_cycle_is_reported_once_with_all_its_lines(tmp_path: Path) -> None:
    """A cycle is one problem, even if one of its lines has another; lines that lead into it have none."""
    text = as_jsonl(
        {"id": "a", "prompt": "a", "extend_from": "b"},
        {"id": "x", "prompt": "leads into the cycle", "extend_from": "a"},
        {"id": "b", "prompt": 5, "extend_from": "c"},
        {"id": "c", "prompt": "c", "extend_from": "a"},
        {"id": "d", "prompt": "d", "extend_from": "e"},
        {"id": "e", "prompt": "e", "extend_from": "d"},
    )
    assert problems(tmp_path, "a.jsonl", text) == [
        (1, "lines 1, 3 and 4 extend each other in a cycle; remove extend_from from one of them"),
        (3, "prompt must be a string, not the number 5"),
        (5, "lines 5 and 6 extend each other in a cycle; remove extend_from from one of them"),
    ]


@pytest.mark.slow
def test_the_model_of_a_long_chain_is_found_quickly(tmp_path: Path) -> None:
    """The model of each line is found once: twenty thousand lines, last first, take no noticeable time."""
    count = 20_000
    records = [{"id": i, "prompt": "p", **({"extend_from": i - 1} if i else {"model": NEW})} for i in range(count)]
    lines = read(tmp_path, "a.jsonl", as_jsonl(*reversed(records)))
    assert {line.request.model for line in lines} == {NEW}
