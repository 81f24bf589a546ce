"""Bad usage: one clear sentence, status 2, and nobody hears of it."""

from __future__ import annotations

import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from omni_async.cli.app import run
from tests.support.shell import Said, Shell, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LINK = "https://example.com/a.png"

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
    (["generate", "a", "--aspect-ratio", "4:3"], "--aspect-ratio"),
    (["generate", "a", "--api-key", "sk-good"], "No such option"),
    (["generate", "a", "-o", "note.txt"], "-o note.txt: no clip can be stored there: File exists"),
    (["generate", "a", "--base-url", "nonsense"], "'nonsense' is not an http(s) URL"),
    (["batch"], "Missing argument"),
    (["batch", "none.txt"], "none.txt: the file cannot be read: No such file or directory"),
    (["batch", "."], ".: the file name must end in .jsonl, .csv or .txt"),
    (["batch", "good.txt", "--per-minute", "0"], "--per-minute must be a number above 0"),
    (["batch", "good.txt", "--max-in-flight", "0"], "--max-in-flight must be a whole number of at least 1"),
    (["batch", "good.txt", "--checks-per-second", "nan"], "--checks-per-second must be a number above 0"),
    (["batch", "good.txt", "--timeout", "-1"], "--timeout must be a number above 0"),
    (["batch", "good.txt", "--ambiguous", "maybe"], "--ambiguous"),
    (["fetch"], "Missing argument"),
    (["fetch", "task_1", " "], "' ' is no task id"),
    (["nonsense"], "No such command"),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Somebody who listens, and to whom nobody should speak; the usual address, with a key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setenv("APIMART_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("APIMART_API_KEY", "sk-good")
        yield listener


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[list[str]], Said]]:
    """Run a command in this process, which is quick; signals are put back afterwards."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run_it(arguments: list[str]) -> Said:
        monkeypatch.setattr(sys, "argv", ["omni-async", *arguments])
        with pytest.raises(SystemExit) as end:
            run()
        assert isinstance(end.value.code, int)
        return Said(end.value.code, *capsys.readouterr())

    yield run_it
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("arguments", "complaint"), WRONG, ids=[" ".join(words)[:40] for words, _ in WRONG])
def test_what_is_wrong_is_told_before_anything_is_sent(
    arguments: list[str], complaint: str, tmp_path: Path, server: socket.socket, say: Callable[[list[str]], Said]
) -> None:
    """Bad usage ends with status 2 and says what is wrong; the server is not even connected to."""
    (tmp_path / "note.txt").write_text("no video")
    (tmp_path / "good.txt").write_text("a prompt")
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.write(b"\0\0\0\x18ftypisom")
        file.truncate(20 * 1024 * 1024 + 1)
    said = say(arguments)
    assert complaint in " ".join(said.err.split())
    assert (said.status, said.out) == (2, "")
    with pytest.raises(BlockingIOError):
        server.accept()


async def test_a_missing_key_is_told_with_its_remedy(bare_shell: Shell) -> None:
    """Without a key the status is 2, and two ways out are named; nothing is made on disk."""
    said = await bare_shell.omni("generate", "a")
    assert (said.status, said.out) == (2, "")
    assert "export APIMART_API_KEY=..." in said.err
    assert "--sandbox" in said.err
    assert list(bare_shell.folder.iterdir()) == []


async def test_a_missing_extra_is_named(bare_shell: Shell) -> None:
    """Without typer or rich, one line names the command that installs them, and the status is 2."""
    for missing in ("typer", "rich"):
        program = f"import sys; sys.modules[{missing!r}] = None; import omni_async.__main__ as m; m.main()"
        said = await ended(await bare_shell.start_python("-c", program))
        assert (said.status, said.out) == (2, "")
        assert said.err == "the command line needs: pip install 'omni-async[cli]'\n"
