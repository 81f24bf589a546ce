"""The real program as a process: exit statuses, signals, closed streams, and the display on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from omni_async import JobStatus
from tests.support.ledgers import opened, record_of
from tests.support.shell import TIMEOUT, wait_for_exit, wait_for_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

pytestmark = pytest.mark.slow  # each test starts at least one interpreter


async def test_exit_statuses_reach_the_shell(shell: Shell, sandbox: SandboxThread) -> None:
    """0 if all clips are complete, 1 if a job failed, 2 for wrong usage, 3 if the run stopped early."""
    done, usage, stopped = await asyncio.gather(
        shell.omni_process("generate", "an apple", "-o", "done"),
        shell.omni_process("generate"),
        shell.omni_process("generate", "a pear", "-o", "stopped", APIMART_API_KEY="sk-wrong"),
    )
    assert (done.status, usage.status, stopped.status) == (0, 2, 3)
    sandbox.script("submit", ["http_400"])
    failed = await shell.omni_process("generate", "a plum", "-o", "failed")
    assert failed.status == 1
    assert (failed.out, usage.out, stopped.out) == ("", "", "")
    assert (shell.folder / done.out.strip()).read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
async def test_the_first_signal_stops_the_run_and_prints_how_to_continue(
    shell: Shell, sandbox: SandboxThread, number: signal.Signals
) -> None:
    """The status is 130, nothing more is submitted, and the printed command continues without paying twice."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(5)))
    process = await shell.start("batch", file, "--max-in-flight", "2", "-v")
    await wait_for_output(process, r"running, (task_\w+)", different=2)
    process.send_signal(number)
    result = await wait_for_exit(process)
    assert result.status == 130
    assert result.out.startswith("0 of 5 clips in clips, ")
    assert sandbox.record.accepted == 2
    steps = "interrupted\nunfinished: 2 accepted (not charged again), 3 not sent. To continue:\n"
    assert f"{steps}  python -m omni_async batch p.txt --max-in-flight 2 -v\n" in result.err

    (command,) = (shlex.split(line)[3:] for line in result.err.splitlines() if line.startswith("  python"))
    object.__setattr__(sandbox.settings, "median", 0.05)
    done = await shell.omni(*command)
    assert done.status == 0
    assert done.out.startswith("5 of 5 clips in clips, $")
    assert len(shell.clips()) == sandbox.record.accepted == 5


@pytest.mark.parametrize("sandbox", [{"median": 30.0, "sigma": 0.0, "faults": {"hang_submit": 1.0}}], indirect=True)
async def test_the_second_signal_ends_the_process_immediately(shell: Shell) -> None:
    """While the first one still waits for the response to a submit, the second one exits without further output."""
    process = await shell.start("generate", "a", "-v")
    await wait_for_output(process, "submitting")
    process.send_signal(signal.SIGINT)
    await wait_for_output(process, "press Ctrl-C again to exit immediately")
    process.send_signal(signal.SIGINT)
    result = await wait_for_exit(process)
    assert (result.status, result.out, result.err) == (130, "", "")


async def test_a_handshake_that_is_interrupted_has_sent_nothing(shell: Shell) -> None:
    """A server that accepts connections and never answers their TLS: no job is called sent, or unknown."""
    connected = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()  # until the client leaves
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        file = shell.write("p.txt", "eins\nzwei\n")
        process = await shell.start("batch", file, "--base-url", url, "--on-ambiguous", "hold")
        await asyncio.wait_for(connected.wait(), TIMEOUT)
        process.send_signal(signal.SIGINT)
        result = await wait_for_exit(process)
    assert result.status == 130
    assert "unfinished: 2 not sent. To continue:\n" in result.err
    status = await shell.omni("status", "clips")
    assert status.out.startswith("clips/ledger.db: 2 jobs\n2 waiting\npaid $0.00, 0 submits\n")


@pytest.mark.parametrize("sandbox", [{"median": 4.0, "sigma": 0.0}], indirect=True)
async def test_an_interrupted_clip_is_downloaded_later(shell: Shell, sandbox: SandboxThread) -> None:
    """An interrupted generate is in the ledger: the printed resume command downloads the clip that is paid for."""
    process = await shell.start("generate", "a", "-v")
    await wait_for_output(process, r"running, (task_\w+)")
    process.send_signal(signal.SIGINT)
    result = await wait_for_exit(process)
    assert result.status == 130
    steps = "unfinished: 1 accepted (not charged again). To continue:\n  python -m omni_async resume clips\n"
    assert steps in result.err
    resumed = await shell.omni("resume", "clips")
    assert (resumed.status, resumed.err) == (0, "")
    assert resumed.out.startswith("1 of 1 clip in clips, $")
    assert sandbox.record.accepted == len(shell.clips()) == 1


async def test_the_sandbox_serves_until_it_is_interrupted(bare_shell: Shell) -> None:
    """The sandbox command prints its address and a key, also as export lines for a shell; Ctrl-C ends it, status 0."""
    process = await bare_shell.start("sandbox", "--median", "0.1", "--credits", "7")
    assert process.stdout is not None
    words = (await process.stdout.readline()).decode().split()
    address, key = words[words.index("sandbox:") + 1], words[words.index("key:") + 1]
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    assert lines == [f"export APIMART_BASE_URL={address}", f"export APIMART_API_KEY={key}"]
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        answer = await session.get(f"{address}/v1/balance", headers={"Authorization": f"Bearer {key}"})
        assert json.loads(await answer.text())["remain_credits"] == 7
    process.send_signal(signal.SIGINT)
    assert (await wait_for_exit(process)).status == 0


# Streams


async def test_a_broken_pipe_stops_the_run(shell: Shell) -> None:
    """If stdout is closed, as behind `head`, the run stops with status 3 instead of paying for unseen results."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(40)))
    process = await shell.start("batch", file, "--json", "--max-in-flight", "2")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    err = (await process.stderr.read()).decode()
    assert await process.wait() == 3
    assert "stopped early: stdout: Broken pipe" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
async def test_a_closed_stdin_changes_nothing(shell: Shell) -> None:
    """A command whose stdin is closed, as under some service managers, works as usual."""
    program = shlex.join([sys.executable, "-m", "omni_async", "generate", "an apple"])
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {program} <&-"),
        cwd=shell.folder,
        env=shell.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    result = await wait_for_exit(process)
    assert result.status == 0
    assert (shell.folder / result.out.strip()).read_bytes()[4:8] == b"ftyp"


async def test_a_missing_extra_is_named(bare_shell: Shell) -> None:
    """Without typer or rich, one line names the command that installs them, and the status is 2."""
    for missing in ("typer", "rich"):
        program = f"import sys; sys.modules[{missing!r}] = None; import omni_async.__main__ as m; m.main()"
        result = await wait_for_exit(await bare_shell.start_python("-c", program))
        assert (result.status, result.out) == (2, "")
        assert result.err == "the command line needs: pip install 'omni-async[cli]'\n"


# A terminal


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("width", [40, 100])
async def test_a_terminal_shows_the_run_and_is_restored(shell: Shell, width: int) -> None:
    """On a terminal the live block is drawn and removed at the end: the cursor is visible, the summary remains."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(4)))
    status, shown = await on_terminal(shell, width, "batch", file)
    assert status == 0
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("0/4")
    assert "running" in shown
    end = CONTROL.sub("", shown[shown.rindex("\x1b[?25h") :])
    assert end.strip().startswith("4 of 4 clips in clips, $")
    assert "Traceback" not in shown


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("width", [40, 100])
async def test_a_terminal_shows_the_folder_as_it_changes(bare_shell: Shell, width: int) -> None:
    """On a terminal `status --watch` draws the table in its place, leaves the last one, and shows the cursor again."""
    (bare_shell.folder / "clips").mkdir()
    is_drawn = asyncio.Event()
    async with opened(bare_shell.folder / "clips" / "ledger.db") as ledger:
        await ledger.insert(running := record_of("a", status=JobStatus.RUNNING, task_id="task_1", submits=1))
        watched = asyncio.create_task(
            on_terminal(bare_shell, width, "status", "--watch", at_first=("watching", is_drawn))
        )
        await asyncio.wait_for(is_drawn.wait(), TIMEOUT)
        await ledger.save(replace(running, status=JobStatus.COMPLETED, cost=0.5))
        status, shown = await watched
    assert status == 0
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.index("1 running") < shown.index("watching") < shown.rindex("1 completed")
    assert "watching" not in shown[shown.rindex("1 completed") :]
    assert "Traceback" not in shown


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
async def test_no_color_is_honoured(shell: Shell) -> None:
    """NO_COLOR and --no-color leave no color code on a terminal; without them there are some."""
    file = shell.write("p.txt", "a\n")
    colors = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38)[0-9;]*m")
    runs = [
        on_terminal(shell, 80, "batch", file, "-o", "a"),
        on_terminal(shell, 80, "batch", file, "-o", "b", "--no-color"),
        on_terminal(shell, 80, "batch", file, "-o", "c", NO_COLOR="1"),
        on_terminal(shell, 80, "batch", file, "-o", "d", "--quiet"),
    ]
    colored, plain, also_plain, quiet = [shown for _, shown in await asyncio.gather(*runs)]
    assert colors.search(colored)
    assert not colors.search(plain)
    assert not colors.search(also_plain)
    assert quiet == ""


async def on_terminal(
    shell: Shell, width: int, *arguments: str, at_first: tuple[str, asyncio.Event] | None = None, **environment: str
) -> tuple[int, str]:
    """Run a command on a terminal of this width; return its status and everything that it wrote there.

    `at_first` is a text and an event, which is set when the text has been shown.
    """
    import fcntl
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omni_async", *arguments),
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm-256color"} | environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    reading = asyncio.create_task(asyncio.to_thread(read_all, controller, when_shown(at_first)))
    try:
        status = await asyncio.wait_for(process.wait(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
        shown = await reading
        os.close(controller)
    return status, shown.decode()


def when_shown(expected: tuple[str, asyncio.Event] | None) -> Callable[[bytes], object]:
    """Return what is to be called, in a thread, with everything that was shown so far."""
    if expected is None:
        return lambda _: None
    (text, event), loop = expected, asyncio.get_running_loop()
    return lambda shown: loop.call_soon_threadsafe(event.set) if text.encode() in shown else None


def read_all(terminal: int, on_read: Callable[[bytes], object] = lambda _: None) -> bytes:
    """Read what is written to a terminal until its other end is closed."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux reports the closed end this way
            piece = b""
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        on_read(b"".join(pieces))
