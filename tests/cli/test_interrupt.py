"""Ctrl-C: the first one ends a run cleanly and says how to go on, the second one ends it at once."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from .shell import ended, until

if TYPE_CHECKING:
    from omni_async.sandbox import SandboxProcess

    from .shell import Shell

SLOW = {"median": 30.0, "sigma": 0.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
async def test_the_first_one_tells_how_to_go_on(shell: Shell, sandbox: SandboxProcess, number: signal.Signals) -> None:
    """The status is 130, nothing more is sent, and the command that is told fetches what is paid already."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(5)))
    process = await shell.start("batch", file, "--max-in-flight", "2", "-v")
    await until(process, r"running, (task_\w+)", different=2)
    process.send_signal(number)
    said = await ended(process)
    assert said.status == 130
    assert said.out.startswith("0 of 5 clips in clips, ")
    accepted = (await sandbox.record())["accepted"]
    assert accepted == 2
    assert "interrupted\n2 tasks accepted, but not fetched." in said.err
    assert "3 not accepted yet. Go on with:\n  python -m omni_async batch p.txt --max-in-flight 2 -v\n" in said.err

    fetch, _ = (shlex.split(line)[3:] for line in said.err.splitlines() if line.startswith("  python"))
    fetched = await shell.omni(*fetch)
    assert fetched.status == 0
    assert len(fetched.out.splitlines()) == 2
    assert (await sandbox.record())["accepted"] == accepted


@pytest.mark.parametrize("sandbox", [SLOW | {"faults": {"hang_submit": 1.0}}], indirect=True)
async def test_the_second_one_ends_at_once(shell: Shell) -> None:
    """While the first one still waits for an answer to a submit, the second one ends the process without a word."""
    process = await shell.start("generate", "a", "-v")
    await until(process, "submitting")
    process.send_signal(signal.SIGINT)
    await until(process, "Ctrl-C once more ends at once")
    process.send_signal(signal.SIGINT)
    said = await ended(process)
    assert (said.status, said.out, said.err) == (130, "", "")


@pytest.mark.parametrize("sandbox", [SLOW], indirect=True)
async def test_one_clip_is_fetched_later(shell: Shell) -> None:
    """An interrupted generate names the task that it has paid for."""
    process = await shell.start("generate", "a", "-v")
    task_id = await until(process, r"running, (task_\w+)")
    process.send_signal(signal.SIGINT)
    said = await ended(process)
    assert said.status == 130
    assert f"  python -m omni_async fetch {task_id} -o clips\n" in said.err
    assert "Go on with" not in said.err
