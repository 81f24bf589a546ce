"""Ctrl-C: the first one ends a run cleanly and says how to go on, the second one ends it at once."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.shell import ended, until

if TYPE_CHECKING:
    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell

SLOW = {"median": 30.0, "sigma": 0.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
async def test_the_first_one_tells_how_to_go_on(shell: Shell, sandbox: SandboxProcess, number: signal.Signals) -> None:
    """The status is 130, nothing more is sent, and the command that is told goes on without paying twice."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(5)))
    process = await shell.start("batch", file, "--max-in-flight", "2", "-v")
    await until(process, r"running, (task_\w+)", different=2)
    process.send_signal(number)
    said = await ended(process)
    assert said.status == 130
    assert said.out.startswith("0 of 5 clips in clips, ")
    assert (await sandbox.record())["accepted"] == 2
    told = "interrupted\nleft: 2 accepted (not paid again), 3 not sent. Go on:\n"
    assert f"{told}  python -m omni_async batch p.txt --max-in-flight 2 -v\n" in said.err

    (command,) = (shlex.split(line)[3:] for line in said.err.splitlines() if line.startswith("  python"))
    done = await shell.omni(*command)
    assert done.status == 0
    assert done.out.startswith("5 of 5 clips in clips, $")
    assert len(shell.clips()) == (await sandbox.record())["accepted"] == 5


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


@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
async def test_one_clip_is_fetched_later(shell: Shell, sandbox: SandboxProcess) -> None:
    """An interrupted generate is in the ledger: resume, as it is told, brings the clip that is paid already."""
    process = await shell.start("generate", "a", "-v")
    await until(process, r"running, (task_\w+)")
    process.send_signal(signal.SIGINT)
    said = await ended(process)
    assert said.status == 130
    assert "left: 1 accepted (not paid again). Go on:\n  python -m omni_async resume clips\n" in said.err
    resumed = await shell.omni("resume", "clips")
    assert (resumed.status, resumed.err) == (0, "")
    assert resumed.out.startswith("1 of 1 clip in clips, $")
    assert (await sandbox.record())["accepted"] == len(shell.clips()) == 1
