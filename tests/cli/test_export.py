"""`omni-async export`: from a batch to a data set, end to end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.ledgers import opened

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell


async def test_a_batch_becomes_a_data_set(shell: Shell, sandbox: SandboxThread) -> None:
    """Each clip has a row with what was asked for, its length, and what the server charged; a failed line has none."""
    sandbox.script("submit", ["http_400"])
    lines = [
        {"id": key, "prompt": f"{key}!", "aspect_ratio": "9:16", "extra": {"seed": 7}} for key in ("no", "one", "two")
    ]
    file = shell.write("p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert (await shell.omni("batch", file, "--max-in-flight", "1")).status == 1, file
    result = await shell.omni("export")
    assert (result.status, result.out) == (0, "clips/metadata.jsonl\n")
    assert "1 job without a clip left out" in result.err
    assert "load_dataset(\"videofolder\", data_dir='clips')" in result.err
    rows = [json.loads(line) for line in (shell.folder / "clips" / "metadata.jsonl").read_text().splitlines()]
    assert [(row["file_name"], row["prompt"], row["seed"]) for row in rows] == [
        ("one.mp4", "one!", 7),
        ("two.mp4", "two!", 7),
    ]
    assert sum(row["cost"] for row in rows) == pytest.approx(sandbox.record.paid)
    assert all(row["seconds"] == pytest.approx(3, abs=0.2) for row in rows)  # the one clip that all tasks share
    table = await shell.omni("export", "--format", "csv", "--json")
    [found] = table.records
    assert (found["export"], found["clips"], found["jobs_without_clip"]) == ("clips/metadata.csv", 2, 1)
    assert found["columns"] == list(rows[0])


async def test_what_cannot_be_exported(bare_shell: Shell) -> None:
    """A folder without a ledger, another program's table, and an unknown format end with status 2."""
    assert (await bare_shell.omni("export", "none")).status == 2
    (bare_shell.folder / "clips").mkdir()
    async with opened(bare_shell.folder / "clips" / "ledger.db"):
        pass
    bare_shell.write("clips/metadata.csv", "file_name,text\n")
    taken = await bare_shell.omni("export")
    assert (taken.status, taken.out) == (2, "")
    assert "move it away" in taken.err
    wrong = await bare_shell.omni("export", "--format", "parquet")
    assert wrong.status == 2
    assert "jsonl" in wrong.err
