"""`ProgressDisplay` on a real terminal: a program as a process behind a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.slow  # each test starts an interpreter

PROGRAM = """
import asyncio
from omni_async import Polling
from omni_async.progress import ProgressDisplay
from omni_async.testing import MemoryServer

server = MemoryServer(duration=DURATION, latency=0.01)
client = server.client("clips", on_event=ProgressDisplay(), polling=Polling(min_interval=0.1, max_interval=0.2))

async def main():
    END
"""
WITH = """async with client:
        jobs = [client.submit(f"a fox, take {number}") for number in range(5)]
        print("all submitted")
        await asyncio.gather(*jobs)
    print("closed")

asyncio.run(main())
"""
FORGOTTEN = """await client.open()
    client.submit("a fox")
    await asyncio.sleep(1)

asyncio.run(main())
"""

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def run_on_terminal(folder: Path, program: str, width: int, *, interrupt_at: str = "") -> tuple[int, str]:
    """Run a program on a terminal. Return its status and all that it wrote. SIGINT follows a text that it shows."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    timer = threading.Timer(60, process.kill)
    timer.start()
    shown = b""
    try:
        while chunk := _read(controller):
            shown += chunk
            if interrupt_at and interrupt_at.encode() in shown:
                process.send_signal(signal.SIGINT)
                interrupt_at = ""
        return process.wait(), shown.decode()
    finally:
        timer.cancel()
        os.close(controller)


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # the program has ended
        return b""


def lines_of(shown: str) -> list[str]:
    """Return what is to be read in the end: a line that is drawn again replaces the one before."""
    screen: list[str] = []
    row = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        screen += [""] * (row + 1 - len(screen))
        if token == "\n":
            row += 1
        elif match := re.fullmatch(r"\x1b\[(\d*)A", token):
            row -= int(match[1] or 1)
        elif token == "\x1b[2K":
            screen[row] = ""
        elif not token.startswith("\x1b") and token != "\r":
            screen[row] += token
    return [line.rstrip() for line in screen if line.strip()]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_program_shows_its_progress(tmp_path: Path, width: int) -> None:
    """What it prints stays above the block, whose last state stays on the screen; no line is too wide."""
    status, shown = run_on_terminal(tmp_path, PROGRAM.replace("END", WITH).replace("DURATION", "1.5"), width)
    assert status == 0
    lines = lines_of(shown)
    assert lines[0] == "all submitted"
    assert lines[-1] == "closed"
    assert lines[1].endswith("5/5 100%")
    assert re.fullmatch(r"\$2\.50 · [\d.]+/min · \d+ s", lines[2])
    assert len(lines) == 4
    assert "running" in shown
    assert max(map(len, lines)) <= width
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


def test_an_interrupt_leaves_the_terminal_in_order(tmp_path: Path) -> None:
    """After Ctrl-C the last state is left there, the traceback follows below it, and the cursor is visible."""
    program = PROGRAM.replace("END", WITH).replace("DURATION", "600")
    status, shown = run_on_terminal(tmp_path, program, 100, interrupt_at="m5 running")  # after a color, not in a key
    assert status in {1, 130, -signal.SIGINT}
    lines = lines_of(shown)
    assert lines[1].endswith("0/5 0%")
    assert re.fullmatch(r"5 running · \d+ s", lines[2])
    assert lines[3].startswith("Traceback")
    assert lines[-1].startswith("KeyboardInterrupt")
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


def test_a_client_that_is_not_closed_leaves_the_cursor_visible(tmp_path: Path) -> None:
    """The display ends with the program."""
    status, shown = run_on_terminal(tmp_path, PROGRAM.replace("END", FORGOTTEN).replace("DURATION", "600"), 80)
    assert status == 0
    assert "0/1" in shown
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
