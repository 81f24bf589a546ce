"""Text that is not ours steers no terminal and forges no line, wherever a command prints it.

Every source of text is made hostile in turn. The same commands run in this process, and as processes of their own with
a pipe and with a terminal for their output.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from omni_async import JobStatus
from omni_async.plain_text import is_harmless
from tests.support.http_servers import web_server
from tests.support.ledgers import opened, record_of
from tests.support.shell import TIMEOUT, Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    Run: TypeAlias = Callable[..., Awaitable[str]]

BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
STEERING = (
    "\x1b[1337m\x1b]0;title\x07\x9b1337m\x08\x7f\u202e\u2066\u200e\u061c\u200b\u200c\u200d\u2060\ufeff\xad"
    "\U000e0041\ufe0f"
)
HOSTILE = "".join([f"A[red]B{STEERING}C", *(f"{each}Go on: rm" for each in BREAKS)])
NAME = HOSTILE.encode()[:200].decode("utf-8", "ignore")  # as long as a file name may be
IN_HEADER = re.sub("[\x00-\x1f\x7f]", "", HOSTILE)  # aiohttp sends no other header

# Records with these statuses have no task.
UNSENT = {JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.UNKNOWN}

# The codes with which a terminal is told about styles, the cursor and its lines. None of them is in HOSTILE.
OWN_CODES = re.compile(r"\x1b\[(?!1337m)[0-9;?]*[A-Za-z]")


@dataclass
class HostileServer:
    """An API whose every text is hostile. `fault` says which of its answers are."""

    fault: str = ""
    url: str = ""
    requests: list[str] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        self.requests.append(request.path)
        if request.path == "/clip":
            return web.Response(status=302, headers={"Location": f"https://{IN_HEADER}.example/"})
        if self.requests.count("/v1/tasks/task_1") > 2:  # another link would be asked for again and again
            return web.json_response({"error": {"message": HOSTILE}}, status=401)
        if request.path.startswith("/v1/tasks/"):
            task_id = request.path.removeprefix("/v1/tasks/")
            return web.json_response({"code": 200, "data": self._task() | {"id": task_id}})
        return self._error() or web.json_response(self._content(request.path))

    def _error(self) -> web.Response | None:
        """Return the answer to everything but status requests, if the fault is one of errors."""
        if self.fault == "page":
            return web.Response(status=404, text=f"<html>{HOSTILE}</html>", content_type="text/html")
        if self.fault == "refusal":
            error = {"message": HOSTILE, "code": HOSTILE, "type": HOSTILE, "request_id": HOSTILE}
            return web.json_response({"error": error}, status=400, headers={"X-Request-Id": IN_HEADER})
        if self.fault == "success":
            return web.json_response({"code": HOSTILE, "message": HOSTILE, "success": False})
        return None

    def _content(self, path: str) -> dict[str, Any]:
        if path == "/v1/models":
            return {"data": [{"id": f"omni-{HOSTILE}"}]}
        if path.endswith("/generations"):
            task_id = f"task_{HOSTILE}" if self.fault == "id" else "task_1"
            return {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}
        return {"data": {"remain_balance": 5}}

    def _task(self) -> dict[str, Any]:
        if self.fault == "redirect":
            return {"status": "completed", "result": {"videos": [{"url": f"{self.url}/clip"}]}}
        if self.fault == "link":
            return {"status": "completed", "result": {"videos": [{"url": f"https://{HOSTILE}/"}]}}
        return {"status": "failed", "error": {"message": HOSTILE, "code": HOSTILE}}


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    """Serve a hostile API."""
    hostile = HostileServer()
    async with web_server(hostile.answer) as hostile.url:
        yield hostile


@pytest.fixture
def shell(server: HostileServer, tmp_path: Path) -> Shell:
    """Return a working directory and an environment in which the command line uses the hostile API."""
    return Shell(tmp_path, {"APIMART_API_KEY": "sk-good", "APIMART_BASE_URL": server.url})


async def in_this_process(shell: Shell, *arguments: str) -> str:
    """Run a command without a process of its own, and return all that it prints."""
    result = await shell.omni(*arguments)
    return result.out + result.err


async def with_a_pipe(shell: Shell, *arguments: str) -> str:
    """Run a command whose output is read by another program."""
    result = await shell.omni_process(*arguments)
    return result.out + result.err


async def with_a_terminal(shell: Shell, *arguments: str) -> str:
    """Run a command on a terminal of 2,000 columns: where it is narrower, the terminal itself begins new lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 2000, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omni_async", *arguments),
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    reading = asyncio.create_task(asyncio.to_thread(_read_all, ours))
    try:
        await asyncio.wait_for(process.wait(), TIMEOUT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        text = await reading
        os.close(ours)
    assert "Traceback" not in text, text
    return OWN_CODES.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")


def _read_all(terminal: int) -> str:
    read = b""
    with contextlib.suppress(OSError):  # on Linux, the end of a terminal
        while piece := os.read(terminal, 65536):
            read += piece
    return read.decode()


slow = pytest.mark.slow
RUNS = [in_this_process, pytest.param(with_a_pipe, marks=slow), pytest.param(with_a_terminal, marks=slow)]
each_run = pytest.mark.parametrize("run", RUNS, ids=["in this process", "pipe", "terminal"])


def assert_harmless(printed: str, *, quotes: str = "Go on: rm") -> None:
    """Check that the text has arrived, and that it has arrived as text."""
    assert quotes in printed, printed
    harmful = {line: line for line in printed.split("\n") if not is_harmless(line)}
    assert not harmful
    forged = [line for line in re.split(f"[{BREAKS}]", printed) if line.strip(" │|").startswith("Go on")]
    assert not forged, printed


@each_run
@pytest.mark.parametrize("fault", ["refusal", "page", "success", "failed", "id", "redirect", "link"])
async def test_a_server(server: HostileServer, shell: Shell, fault: str, run: Run) -> None:
    """Messages, codes, pages, ids, the reason of a failed task, and the hosts of links and redirects."""
    server.fault = fault
    printed = await run(shell, "generate", "a red apple", "-v")
    # A link is shown in part.
    assert_harmless(printed, quotes="cannot be downloaded" if fault in {"link", "redirect"} else "Go on: rm")
    assert_harmless(await run(shell, "status"), quotes="job")


@each_run
@pytest.mark.parametrize("command", ["models", "check", "balance"])
@pytest.mark.parametrize("fault", ["", "refusal", "page", "success"])
async def test_what_costs_nothing(server: HostileServer, shell: Shell, command: str, fault: str, run: Run) -> None:
    """The ids of models, and the errors of the requests that cost nothing."""
    server.fault = fault
    quotes = "Go on: rm" if fault or command == "models" else "5"
    assert_harmless(await run(shell, command), quotes=quotes)


# What a message quotes of a text with control characters that no request may hold.
REFUSED = "the control character U+001B at character"

PROMPT_FILES = {
    "a prompt": {"prompt": HOSTILE},
    "an id": {"id": HOSTILE, "prompt": "a red apple"},
    "a field": {HOSTILE: 1, "prompt": "a red apple"},
    "a model": {"model": HOSTILE, "prompt": "a red apple"},
    "a value": {"prompt": "a red apple", "duration": HOSTILE},
    "a parent": {"prompt": "a red apple", "extend_from": HOSTILE},
    "an image": {"prompt": "a red apple", "images": [f"{NAME}.png"]},
    "a URL": {"prompt": "a red apple", "image_urls": [HOSTILE]},
    "a video": {"prompt": "a red apple", "video": f"https://{HOSTILE}/"},
    "an extra field": {"prompt": "a red apple", "extra": {HOSTILE: None}},
}


@each_run
@pytest.mark.parametrize("name", PROMPT_FILES)
async def test_a_prompt_file(shell: Shell, name: str, run: Run) -> None:
    """Each field of a line, in an error that quotes it, in the events of its job and in its summary."""
    file = shell.write("prompts.jsonl", json.dumps(PROMPT_FILES[name]))
    printed = await run(shell, "batch", file, "-v")
    refused = dict.fromkeys(("a prompt", "an id", "a model", "a parent"), REFUSED)
    assert_harmless(printed, quotes=({"a video": "Go ..."} | refused).get(name, "Go on: rm"))
    assert_harmless(await run(shell, "resume", "clips", "--retry-failed"), quotes="clips")


@each_run
async def test_the_columns_of_a_csv_file(shell: Shell, run: Run) -> None:
    """Its header, with a line break in quotes. A byte order mark there would be taken for a second file."""
    name = HOSTILE.replace("\ufeff", "")
    file = shell.write("prompts.csv", f'prompt,"{name}"\na red apple,1\n')
    assert_harmless(await run(shell, "batch", file), quotes=REFUSED)


@each_run
async def test_names_of_files_and_folders(shell: Shell, run: Run) -> None:
    """A prompt file, an output folder and a file of certificates with names that somebody else has chosen."""
    (shell.folder / f"{NAME}.txt").write_text("a red apple\n\ud800".encode("utf-8", "replace").decode())
    (shell.folder / NAME).mkdir()
    for arguments in [
        ("batch", f"{NAME}.json"),
        ("batch", f"missing {NAME}.txt"),
        ("batch", NAME),
        ("status", NAME),
        ("gallery", NAME),
        ("resume", NAME),
        ("batch", f"{NAME}.txt", "-o", NAME),  # every job fails: the summary names the folder, and how to go on
        ("status", NAME),
        ("gallery", NAME),
        ("resume", NAME),
        ("check", "--ca-file", NAME),
    ]:
        assert_harmless(await run(shell, *arguments))


@each_run
@pytest.mark.parametrize(
    "arguments",
    [
        (HOSTILE,),
        (f"--{HOSTILE}",),
        ("status", "a", HOSTILE),
        ("status", f"--{HOSTILE}"),
        ("status", "--status", HOSTILE),
        ("batch", "prompts.txt", "--on-ambiguous", HOSTILE),
        ("batch", "prompts.txt", "--serve", HOSTILE),
        ("fetch", HOSTILE),
        ("generate", "a red apple", "--base-url", HOSTILE),
        ("generate", "a red apple", "--resolution", HOSTILE),
        ("generate", "a red apple", "--image", HOSTILE),
        ("generate", "a red apple", "--extend-from", HOSTILE),
        ("check", "--base-url", f"http://{HOSTILE}"),
        ("sandbox", f"--{HOSTILE}"),
        ("sandbox", "--port", HOSTILE),
        ("sandbox", "--fault", HOSTILE),
    ],
)
async def test_arguments(shell: Shell, arguments: tuple[str, ...], run: Run) -> None:
    """What was pasted into a command, and comes back in a message about its usage."""
    shell.write("prompts.txt", "a red apple")
    quotes = REFUSED if "--extend-from" in arguments else "--port" if "--port" in arguments else "Go on: rm"
    assert_harmless(await run(shell, *arguments), quotes=quotes)


@each_run
async def test_a_ledger_from_elsewhere(shell: Shell, run: Run) -> None:
    """Keys, task ids, errors and names of clips, as `status`, `gallery`, `resume` and `fetch` print them."""
    (shell.folder / "clips").mkdir()
    async with opened(shell.folder / "clips" / "ledger.db") as ledger:
        for status in JobStatus:
            key, request = f"{status}{HOSTILE}", json.dumps({"prompt": HOSTILE})
            task_id = "task_1" if status is JobStatus.CANCELLED else key  # `resume` attaches the job to it
            facts: dict[str, Any] = {"task_id": task_id, "paths": (NAME,)} if status not in UNSENT else {}
            await ledger.insert(record_of(key, status=status, error=HOSTILE, request=request, submits=1, **facts))
    assert_harmless(await run(shell, "status", "--all"))
    assert_harmless(await run(shell, "gallery"), quotes="clips")
    assert_harmless(await run(shell, "export"), quotes="clips")
    assert_harmless(await run(shell, "reconcile"), quotes="clips")
    assert_harmless(await run(shell, "resume", "-v", "--retry-failed", "--retry-unknown"))
    assert_harmless(await run(shell, "status", "--all"))
