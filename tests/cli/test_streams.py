"""Streams that are closed, full or gone, terminals that are closed, locales without UTF-8: a run survives them all."""

from __future__ import annotations

import asyncio
import os
import pty
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.shell import TIMEOUT, wait_for_exit, wait_for_output

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.testing import SandboxThread
    from tests.support.shell import CommandResult, Shell

pytestmark = [
    pytest.mark.slow,  # each test starts at least one interpreter
    pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell and signals"),
]

# A locale in which Python knows no letter beyond ASCII.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


async def _run_in_sh(shell: Shell, command: str, **environment: str) -> CommandResult:
    """Run `omni-async` with these arguments and redirections in a shell."""
    program = f"{shlex.quote(sys.executable)} -m omni_async {command}"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", program),
        cwd=shell.folder,
        env=shell.environment | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return await wait_for_exit(process)


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
async def test_a_run_finishes_whatever_its_streams_are(shell: Shell, sandbox: SandboxThread, streams: str) -> None:
    """Both clips are there, each paid once, and the ledger is sound: nothing was written into it in place of stderr."""
    shell.write("p.txt", "eins\nzwei\n")
    result = await _run_in_sh(shell, f"batch p.txt -v {streams}")
    assert result.status == 0
    assert len([name for name in shell.clips() if name.endswith(".mp4")]) == 2
    assert sandbox.record.accepted == 2
    status = await shell.omni("status", "clips")
    assert status.out.startswith("clips/ledger.db: 2 jobs\n2 completed\n")


@pytest.mark.parametrize("command", ["models", "status clips", "--help", "batch nothing.txt"])
@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", ">/dev/full", "| true"])
async def test_no_command_shows_a_traceback(shell: Shell, command: str, streams: str) -> None:
    """A command that only prints ends with a status and at most one line of its own."""
    result = await _run_in_sh(shell, f"{command} {streams}")
    assert result.status in {0, 1, 2}
    assert len(result.err.splitlines()) <= 1


async def test_a_full_stdout_is_said(shell: Shell) -> None:
    """What was asked for cannot be printed, and stderr says why."""
    result = await _run_in_sh(shell, "models >/dev/full")
    assert result.err == "stdout: No space left on device; no more results are printed\n"


async def test_a_locale_without_utf_8_stores_every_clip(shell: Shell, sandbox: SandboxThread) -> None:
    """Prompts and file names are UTF-8 whatever the locale says, and a run in another locale finds the clips."""
    shell.write("p.txt", "ein Käse\n日本の猫\nplain\n")
    first = await shell.omni_process("batch", "p.txt", **ASCII)
    generated = await shell.omni_process("generate", "süß", **ASCII)
    again = await shell.omni_process("batch", "p.txt")
    gallery = await shell.omni_process("gallery", "clips", **ASCII)
    assert (first.status, generated.status, again.status, gallery.status) == (0, 0, 0, 0)
    assert again.out.startswith("3 of 3 clips in clips, 3 already complete")
    assert sandbox.record.accepted == 4
    names = shell.clips()
    assert any(name.startswith("ein-käse-") for name in names)
    assert any(name.startswith("süß-") for name in names)


@pytest.mark.parametrize("command", ["generate x -o", "batch p.txt -o", "fetch task_1 -o", "status", "resume"])
@pytest.mark.parametrize("length", [300, 5000])
async def test_a_folder_whose_name_is_too_long_is_said_in_one_line(shell: Shell, command: str, length: int) -> None:
    """Nothing is sent, and the status is that of wrong usage."""
    shell.write("p.txt", "eins\n")
    result = await shell.omni(*command.split(), "x" * length)
    assert (result.status, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1


# A terminal that is closed


@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
async def test_sighup_stops_as_cleanly_as_sigterm(shell: Shell, sandbox: SandboxThread) -> None:
    """Sent twice, as the system and the shell do it: the ledger is true, and the printed command continues."""
    file = shell.write("p.txt", "eins\nzwei\n")
    process = await shell.start("batch", file, "-v")
    await wait_for_output(process, r"running, (task_\w+)", different=2)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    result = await wait_for_exit(process)
    assert result.status == 130
    assert "interrupted\nunfinished: 2 accepted (not charged again). To continue:\n" in result.err
    again = await shell.omni_process("batch", file)
    assert again.status == 0
    assert sandbox.record.accepted == 2


async def test_nohup_keeps_a_run_going(shell: Shell) -> None:
    """Where SIGHUP is ignored at the start, it stays ignored."""
    file = shell.write("p.txt", "eins\n")
    process = await asyncio.create_subprocess_exec(
        *("nohup", sys.executable, "-m", "omni_async", "batch", file, "-v"),
        cwd=shell.folder,
        env=shell.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await wait_for_output(process, r"running, (task_\w+)")
    process.send_signal(signal.SIGHUP)
    assert (await wait_for_exit(process)).status == 0


@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
@pytest.mark.parametrize("is_hung_up", [True, False], ids=["with SIGHUP", "without"])
async def test_a_terminal_that_is_gone_raises_nothing(
    shell: Shell, sandbox: SandboxThread, tmp_path: Path, is_hung_up: bool
) -> None:
    """Its display fails with EIO. With SIGHUP the run stops, without it (a daemon's terminal) it finishes."""
    file = shell.write("p.txt", "eins\nzwei\n")
    controller, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "faulthandler", "-m", "omni_async", "batch", file),
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    async with asyncio.timeout(TIMEOUT):
        while sandbox.record.accepted < 2:
            await asyncio.sleep(0.05)
        os.close(controller)
        if is_hung_up:
            process.send_signal(signal.SIGHUP)
        status = await process.wait()
    assert status == (130 if is_hung_up else 0)
    again = await shell.omni_process("batch", file)
    assert again.status == 0
    assert sandbox.record.accepted == 2
