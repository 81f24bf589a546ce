"""`batch` with files of other programs, standard input, defaults, samples and names: what is bought, and said."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerReader
from tests.support.shell import wait_for_exit

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell

LINK = "https://example.com/a.png"


async def test_what_was_understood_is_said_once(shell: Shell, sandbox: SandboxThread) -> None:
    """On stderr, before anything is sent; the same content as a plain file has nothing new to buy, and says nothing."""
    (shell.folder / "p.csv").write_bytes(b"\xff\xfe" + "Prompt;Id\r\nein Bär;1\r\n\r\n".encode("utf-16-le"))
    result = await shell.omni("batch", "p.csv")
    assert result.status == 0
    assert result.err == (
        "p.csv: semicolon-separated, UTF-16, 1 request, columns prompt, id, 'Prompt' read as prompt, "
        "'Id' read as id, 1 blank line skipped\n"
    )
    assert (await shell.omni("batch", "p.csv", "-q")).err == ""
    plain = await shell.omni("batch", shell.write("q.jsonl", '{"prompt": "ein Bär", "id": "1"}\n'))
    assert (plain.status, plain.err, sandbox.record.accepted) == (0, "", 1)


async def test_standard_input_is_bought(shell: Shell, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the format that is named; without one nothing is sent, and the remedy is said."""
    content = b"prompt,id\nan apple,1\na pear,2\n"
    for arguments in (("-",), ("/dev/stdin",)):
        refused = await shell.omni("batch", *arguments)
        assert refused.status == 2
        assert "add --format jsonl or ndjson or json or csv or tsv or txt" in refused.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    result = await shell.omni("batch", "-", "--format", "csv")
    assert (result.status, sandbox.record.accepted) == (0, 2)


@pytest.mark.slow
async def test_a_pipe_is_bought_by_a_process(shell: Shell, sandbox: SandboxThread) -> None:
    """Through a shell, both as - and as /dev/stdin."""
    for number, name in enumerate(("-", "/dev/stdin"), start=1):
        process = await asyncio.create_subprocess_exec(
            *(
                "sh",
                "-c",
                f"printf 'apple {number}' | {shlex.quote(sys.executable)} -m omni_async batch {name} --format txt",
            ),
            cwd=shell.folder,
            env=shell.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        result = await wait_for_exit(process)
        assert (result.status, sandbox.record.accepted) == (0, number)


@pytest.mark.parametrize("sandbox", [{"credits": 9.0}], indirect=True)
async def test_after_standard_input_resume_continues(
    shell: Shell, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be read again: the command that is printed is `resume DIR`, and works."""
    text = "".join(f"prompt {number}\n" for number in range(6))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    result = await shell.omni("batch", "-", "--format", "txt", "-o", "my clips", "--model", "Omni-Flash-Ext")
    assert (result.status, sandbox.record.accepted) == (3, 3)
    (command,) = (line for line in result.err.splitlines() if line.startswith("  python"))
    assert shlex.split(command)[3:] == ["resume", "my clips"]
    assert "not recorded" not in result.err
    assert (await shell.omni(*shlex.split(command)[3:])).status == 3
    with LedgerReader(shell.folder / "my clips") as reader:
        assert reader.totals().jobs == 6


@pytest.mark.slow
async def test_what_was_never_recorded_needs_the_same_input(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, sandbox: SandboxThread
) -> None:
    """A long input that ends early is not recorded whole, and that is said with the number."""
    text = "".join(f"prompt {number}\n" for number in range(1500))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    result = await shell.omni("batch", "-", "--format", "txt", APIMART_API_KEY="wrong")
    with LedgerReader(shell.folder / "clips") as reader:
        missing = 1500 - reader.totals().jobs
    assert (result.status, sandbox.record.accepted) == (3, 0)
    assert missing > 0
    assert f"{missing:,} requests are not recorded yet: give the same input to the same command again" in result.err


async def test_defaults_complete_lines_that_do_not_say_otherwise(shell: Shell, sandbox: SandboxThread) -> None:
    """The options reach the server, and are recorded with each request."""
    file = shell.write("p.jsonl", '{"id": "a", "prompt": "a"}\n{"id": "b", "prompt": "b", "resolution": "1080p"}\n')
    options = (
        "--model",
        "gemini-omni-1.1-flash",
        "--resolution",
        "360p",
        "--aspect-ratio",
        "9:16",
        "--style",
        "in oil",
    )
    assert (await shell.omni("batch", file, *options)).status == 0
    bodies = {task.prompt: task.body for task in sandbox.record.tasks.values()}
    assert bodies["a, in oil"] == {
        "model": "gemini-omni-1.1-flash",
        "prompt": "a, in oil",
        "resolution": "360p",
        "aspect_ratio": "9:16",
    }
    assert bodies["b, in oil"]["resolution"] == "1080p"
    edited = await shell.omni("batch", file, *options[:-2])
    assert (edited.status, sandbox.record.accepted) == (2, 2)
    assert "id 'a' already names another request" in edited.err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--image", "none.png"), "p.txt:1: images: there is no file"),
        (("--image", "ftp://h/a.png"), "--image: 'ftp://h/a.png' is neither a file nor an http(s) URL"),
        (("--duration", "8"), "p.txt:1: duration cannot be set"),
        (("--resolution", "8k"), "p.txt:1: resolution must be '720p', not '8k'"),
        (("--style", "a\x1bb"), "--style holds the control character U+001B at character 2"),
        (("--samples", "0"), "--samples must be a whole number from 1, not 0"),
        (("--name", "{promt}"), "--name '{promt}': {promt} is unknown; use {id}, {n}, {index}"),
        (("--name", "{prompt}", "--samples", "2"), "add {n} or {index}"),
        (("--name", "clip"), "p.txt:2: its clip would have the same name as that of line 1, 'clip'; add {id}"),
    ],
    ids=str,
)
async def test_options_that_cannot_be_meant_are_refused(
    shell: Shell, sandbox: SandboxThread, options: tuple[str, ...], error: str
) -> None:
    """With status 2, before anything is sent."""
    result = await shell.omni("batch", shell.write("p.txt", "a\nb\n"), *options)
    assert (result.status, sandbox.record.submits) == (2, 0)
    assert error in result.err


@pytest.mark.slow
async def test_more_samples_buy_only_the_new_ones(shell: Shell, sandbox: SandboxThread) -> None:
    """A folder without samples grows to two and to three of each line, each with a file of its own."""
    file = shell.write("p.txt", "an apple\na pear\n")
    for samples, accepted in ((1, 2), (2, 4), (3, 6), (3, 6), (1, 6)):
        result = await shell.omni("batch", file, "--samples", str(samples))
        assert (result.status, sandbox.record.accepted) == (0, accepted)
    clips = [name for name in shell.clips() if name.endswith(".mp4")]
    assert len(clips) == 6
    assert len([name for name in clips if "~s" in name]) == 4


async def test_clips_have_the_names_that_were_asked_for(shell: Shell, sandbox: SandboxThread) -> None:
    """The pattern is recorded with each job; a later name changes no clip, and no other file is replaced."""
    (shell.folder / "clips").mkdir()
    (shell.folder / "clips" / "A Pear-0.mp4").write_bytes(b"mine")
    file = shell.write("p.txt", "An Apple\nA Pear\n")
    result = await shell.omni("batch", file, "--samples", "2", "--name", "{prompt}-{index}", "--json")
    assert result.status == 0
    expected = ["A Pear-0-new.mp4", "A Pear-0.mp4", "A Pear-1.mp4", "An Apple-0.mp4", "An Apple-1.mp4"]
    assert [name for name in shell.clips() if name.endswith(".mp4")] == expected
    assert (shell.folder / "clips" / "A Pear-0.mp4").read_bytes() == b"mine"
    again = await shell.omni("batch", file, "--samples", "2", "--name", "{n} {prompt}")
    assert (again.status, sandbox.record.accepted) == (0, 4)
    (shell.folder / "clips" / "An Apple-1.mp4").unlink()
    assert (await shell.omni("batch", file, "--samples", "2")).status == 0
    assert [name for name in shell.clips() if name.endswith(".mp4")] == expected
    assert sandbox.record.accepted == 4


@pytest.mark.parametrize("sandbox", [{"fail_rate": 1.0}], indirect=True)
async def test_the_reasons_of_failures_are_in_the_language_that_was_asked_for(shell: Shell) -> None:
    """In `batch` and in `generate`; a language that the server does not have is refused with those it has."""
    for number, (language, words) in enumerate((("de", "Gener|Inhalt|Kontingent"), ("ja", "生成|審査|利用枠"))):
        file = shell.write(f"p{number}.txt", f"prompt {number}\n")
        result = await shell.omni("batch", file, "--language", language)
        assert result.status == 1
        assert any(word in result.err for word in words.split("|"))
    wrong = await shell.omni("batch", file, "--language", "de-CH")
    assert wrong.status == 2
    assert "'zh'" in wrong.err


@pytest.mark.parametrize("sandbox", [{"retired_model": "gemini-omni-flash-preview"}], indirect=True)
@pytest.mark.parametrize("model", ["gemini-omni-flash-preview", "gemini-omni-9"])
async def test_the_refusal_of_a_model_names_those_that_the_server_offers(shell: Shell, model: str) -> None:
    """A retired or unknown model stops its jobs, with the names to choose from; nothing is paid."""
    file = shell.write("p.jsonl", json.dumps({"prompt": "a", "model": model}) + "\n")
    result = await shell.omni("batch", file)
    assert result.status == 3
    assert f"does not serve the model {model!r}" in result.err
    offer = result.err.partition("It offers ")[2].partition(". ")[0]
    assert {*offer.split(", ")} == {"gemini-omni-1.1-flash", "gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"}
