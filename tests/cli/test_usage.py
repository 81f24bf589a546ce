"""Wrong usage: one clear sentence, status 2, and the server is not contacted."""

from __future__ import annotations

import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from omni_async.cli import app
from omni_async.cli.app import run
from tests.support.shell import CommandResult, Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LINK = "https://example.com/a.png"

COMMANDS = tuple(app.COMMANDS)

WRONG: list[tuple[list[str], str]] = [
    (["generate"], "give a prompt, --image or --video"),
    (["generate", " "], "give a prompt, --image or --video"),
    (["generate", "a", "--image", "none.png"], "--image: there is no file none.png"),
    (
        ["generate", "a", "--image", "data:image/png;base64,AAAA"],
        "'data:image/png;base64,AAAA' is neither a file nor an http(s) URL",
    ),
    (["generate", "a", *["--image", LINK] * 17], "--image takes at most 16, not 17"),
    (["generate", "a", "--video", "none.mp4"], "--video: there is no file none.mp4"),
    (["generate", "a", "--video", "note.txt"], "--video: note.txt is not an MP4, MOV or WebM video"),
    (["generate", "a", "--video", "huge.mp4"], "--video: huge.mp4 has 20971521 bytes"),
    (["generate", "a", "--video", "data:text/plain,x"], "is neither a file nor an http(s) URL"),
    (["generate", "a", "--extend-from", ""], "extend_from_task_id"),
    (["generate", "a", "--aspect-ratio", "4:3"], "'--aspect-ratio': '4:3' is not one of"),
    (["generate", "a", "--api-key", "sk-good"], "No such option"),
    (
        ["generate", "a", "-o", "note.txt"],
        "-o note.txt: cannot store clips there: it is a file or a broken link, not a folder",
    ),
    (["generate", "a", "--base-url", "nonsense"], "'nonsense' is not an http(s) URL"),
    (["batch"], "Missing argument"),
    (["batch", "none.txt"], "none.txt: the file cannot be read: No such file or directory"),
    (["batch", "."], ".: the file name must end in .jsonl, .ndjson, .json, .csv, .tsv or .txt"),
    (["batch", "good.txt", "--per-minute", "0"], "--per-minute must be a number above 0"),
    (["batch", "good.txt", "--max-in-flight", "0"], "--max-in-flight must be a whole number of at least 1"),
    (["batch", "good.txt", "--checks-per-second", "nan"], "--checks-per-second must be a number above 0"),
    (["batch", "good.txt", "--timeout", "-1"], "--timeout must be a number above 0"),
    (["batch", "good.txt", "--on-ambiguous", "maybe"], "--on-ambiguous"),
    (["batch", "good.txt", "--ambiguous", "hold"], "No such option"),
    (["resume", "--failed"], "No such option"),
    (["status", "--state", "failed"], "No such option"),
    (["status", "--status", "doubtful"], "possibly-paid-twice"),
    (["fetch"], "Missing argument"),
    (["fetch", "task_1", " "], "' ' is not a task id"),
    (["nonsense"], "No such command"),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listen on the default address, where nothing should connect, and set a key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setenv("APIMART_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("APIMART_API_KEY", "sk-good")
        yield listener


@pytest.fixture
def run_main(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[list[str]], CommandResult]]:
    """Run the program as its entry point does, in the main thread; its signal handlers are removed afterwards."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run_it(arguments: list[str]) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["omni-async", *arguments])
        with pytest.raises(SystemExit) as end:
            run()
        assert isinstance(end.value.code, int)
        return CommandResult(end.value.code, *capsys.readouterr())

    yield run_it
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(words)[:40] for words, _ in WRONG])
def test_wrong_usage_is_reported_before_anything_is_sent(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    server: socket.socket,
    run_main: Callable[[list[str]], CommandResult],
) -> None:
    """Wrong usage ends with status 2 and says what is wrong; no connection to the server is opened."""
    (tmp_path / "note.txt").write_text("no video")
    (tmp_path / "good.txt").write_text("a prompt")
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.write(b"\0\0\0\x18ftypisom")
        file.truncate(20 * 1024 * 1024 + 1)
    result = run_main(arguments)
    assert message in " ".join(result.err.split())
    assert (result.status, result.out) == (2, "")
    with pytest.raises(BlockingIOError):
        server.accept()


async def test_a_missing_key_is_reported_with_its_remedy(bare_shell: Shell) -> None:
    """Without a key the status is 2, and the message names two ways to continue; nothing is written to disk."""
    result = await bare_shell.omni("generate", "a")
    assert (result.status, result.out) == (2, "")
    assert "export APIMART_API_KEY=..." in result.err
    assert "--sandbox" in result.err
    assert list(bare_shell.folder.iterdir()) == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
async def test_every_command_has_help(bare_shell: Shell, command: str) -> None:
    """--help and -h exit with status 0, and no flag shows a type."""
    help_long = await bare_shell.omni(*command.split(), "--help")
    help_short = await bare_shell.omni(*command.split(), "-h")
    assert (help_long.status, help_long.err) == (help_short.status, help_short.err) == (0, "")
    assert help_long.out == help_short.out
    assert "<bool>" not in help_long.out


async def test_a_missing_key_that_is_nearly_there_is_noted(bare_shell: Shell) -> None:
    """A key in a variable with another name, or in a file .env, is not used, and the message says so."""
    result = await bare_shell.omni("balance", APIMART_KEY="sk-good")
    assert (result.status, result.out) == (2, "")
    assert "APIMART_KEY is set, but that is not its name" in result.err
    bare_shell.write(".env", "APIMART_API_KEY=sk-good\n")
    result = await bare_shell.omni("balance")
    assert result.status == 2
    assert ". ./.env" in result.err
    assert "sk-good" not in result.err


@pytest.mark.parametrize("command", ["balance", "check", "models", "generate a", "batch p.txt", "fetch task_1"])
async def test_a_wrong_environment_is_recognised_before_anything_is_sent(
    bare_shell: Shell, server: socket.socket, command: str
) -> None:
    """A key in quotes or the address of one endpoint ends every command with status 2; no connection is opened."""
    bare_shell.write("p.txt", "a")
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    wrong = {
        "APIMART_API_KEY is not an API key: it is in quotes": {"APIMART_API_KEY": '"sk-good"'},
        "is one endpoint": {"APIMART_BASE_URL": f"{address}/v1/videos/generations"},
    }
    for message, environment in wrong.items():
        set_up = {"APIMART_API_KEY": "sk-good", "APIMART_BASE_URL": address} | environment
        result = await bare_shell.omni(*command.split(), **set_up)
        assert (result.status, result.out) == (2, "")
        assert message in result.err
    with pytest.raises(BlockingIOError):
        server.accept()
