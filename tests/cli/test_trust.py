"""Prompt files and ledgers from somebody else: nothing leaves this machine for them that the user did not allow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell

EVIL = "http://127.0.0.1:9/collect"


@pytest.fixture(autouse=True)
def _pictures(shell: Shell) -> None:
    """Put a picture into the folder of the prompt file, and a private one outside."""
    (shell.folder / "orders").mkdir()
    for name in ("orders/cat.png", "private.png"):
        Image.new("RGB", (8, 8)).save(shell.folder / name)


def _write(shell: Shell, *lines: dict[str, Any]) -> str:
    return shell.write("orders/p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


HOSTILE: tuple[dict[str, Any], ...] = (
    {"id": "good", "prompt": "a", "images": ["cat.png"]},
    {"id": "file", "prompt": "b", "images": ["../private.png"]},
    {"id": "hook", "prompt": "c", "extra": {"webhook": EVIL}},
)


async def test_a_hostile_prompt_file_is_refused_before_anything_is_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """Every such line is reported with the remedy, the status is 2, and nothing is submitted or uploaded."""
    result = await shell.omni("batch", _write(shell, *HOSTILE), "-o", "out")
    first, second = result.err.splitlines()
    assert first.startswith("orders/p.jsonl:2: images: '../private.png' leads to ")
    assert second.startswith(f"orders/p.jsonl:3: extra: 'webhook' asks the server to report to {EVIL!r}")
    assert (result.status, result.out) == (2, "")
    assert (sandbox.record.uploads, sandbox.record.submits) == (0, 0)
    assert not (shell.folder / "out").exists()


async def test_what_the_user_allows_is_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """With both options all lines are submitted, and the same command again has nothing to do."""
    arguments = ("batch", _write(shell, *HOSTILE), "-o", "out", "--allow-outside", "--allow-webhooks", "--json")
    for _ in range(2):
        result = await shell.omni(*arguments)
        assert result.status == 0, result.err
    bodies = {task.prompt: task.body for task in sandbox.record.tasks.values()}
    assert bodies["c"]["webhook"] == EVIL
    assert len(bodies["b"]["image_urls"]) == 1


async def test_pictures_beside_the_prompt_file_need_no_option(shell: Shell, sandbox: SandboxThread) -> None:
    """The working directory does not matter, and no word is said about it."""
    result = await shell.omni("batch", _write(shell, HOSTILE[0]), "-o", "out", "-q")
    assert (result.status, result.err) == (0, "")
    assert sandbox.record.accepted == 1


async def test_a_file_that_the_user_types_may_be_anywhere(shell: Shell, sandbox: SandboxThread) -> None:
    """`generate --image` takes any file without a question."""
    result = await shell.omni("generate", "a", "--image", "orders/../private.png", "-o", "orders/out")
    assert result.status == 0, result.err
    assert sandbox.record.uploads == 1
