"""`batch`: a file of requests becomes a folder of clips; what fails is named, what is left goes on."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from omni_async import batch

if TYPE_CHECKING:
    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell


def as_jsonl(*records: object) -> str:
    """Spell records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


async def test_every_line_becomes_a_clip(shell: Shell, sandbox: SandboxProcess) -> None:
    """The folder holds one clip for each line, named by its key; a line that extends another names its task.

    The sum is the one result on stdout. The same command again makes nothing, and needs no server.
    """
    file = shell.write(
        "prompts.jsonl",
        as_jsonl(
            {"id": "snow", "prompt": "now snow", "extend_from": "apple"},
            {"id": "apple", "prompt": "an apple on a hill", "aspect_ratio": "9:16"},
            {"prompt": "a pear"},
        ),
    )
    pear = batch.read(shell.folder / file)[2].key
    said = await shell.omni("batch", file)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("3 of 3 clips in clips, $")
    assert shell.clips() == sorted(["apple.mp4", "snow.mp4", f"{pear}.mp4"])

    tasks = {task["prompt"]: task for task in (await sandbox.record())["tasks"].values()}
    assert tasks["now snow"]["body"]["extend_from_task_id"] == tasks["an apple on a hill"]["task_id"]
    assert tasks["now snow"]["body"]["aspect_ratio"] == "9:16"

    again = await shell.omni("batch", file, APIMART_BASE_URL="http://127.0.0.1:9")
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("3 of 3 clips in clips, 3 of them from before, $0.00")


async def test_json_is_a_line_for_each_job_and_a_sum(shell: Shell) -> None:
    """--json: stdout is JSON lines only, also for clips from before; the sums agree with the lines."""
    file = shell.write("prompts.txt", "an apple\n\na pear\n")
    await shell.omni("batch", shell.write("one.txt", "a pear\n"))
    said = await shell.omni("batch", file, "--json")
    assert (said.status, said.err) == (0, "")
    *jobs, last = said.records
    assert {(job["line"], job["status"], job["error"]) for job in jobs} == {
        (1, "completed", None),
        (3, "completed", None),
    }
    assert all((shell.folder / job["path"]).is_file() and job["paths"] == [job["path"]] for job in jobs)
    new = [job["cost"] for job in jobs if job["line"] == 1]
    assert sum(new) == pytest.approx(last["summary"]["cost"])
    sums = last["summary"]
    assert (sums["total"], sums["clips"], sums["there_before"], sums["failed"], sums["left"]) == (2, 2, 1, 0, 0)


async def test_a_bad_file_is_not_sent(shell: Shell, sandbox: SandboxProcess) -> None:
    """Every bad line is told as FILE:NUMBER: reason, the status is 2, and the server hears nothing."""
    submits = (await sandbox.record())["submits"]
    file = shell.write("p.jsonl", '{"prompt": "good"}\n{"promt": "a"}\n\n{"prompt": "a", "aspect_ratio": "1:1"}\n')
    said = await shell.omni("batch", file)
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines() == [
        "p.jsonl:2: unknown field 'promt'; did you mean 'prompt'?",
        "p.jsonl:4: aspect_ratio must be '16:9' or '9:16', not '1:1' (model gemini-omni-flash-preview)",
    ]
    missing = await shell.omni("batch", "none.txt")
    assert (missing.status, missing.err) == (2, "none.txt: the file cannot be read: No such file or directory\n")
    assert (await sandbox.record())["submits"] == submits


@pytest.mark.parametrize("sandbox", [{"fail_rate": 1.0}], indirect=True)
async def test_failed_lines_are_named(shell: Shell) -> None:
    """Failures end with status 1, and are named by line and key: the first ten of them, and how many more."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(12)))
    said = await shell.omni("batch", file)
    assert said.status == 1
    assert said.out.startswith("0 of 12 clips in clips, 12 failed, $0.00")
    *failures, more, how, again = said.err.splitlines()
    keys = {line.number: line.key for line in batch.read(shell.folder / file)}
    assert len(failures) == 10
    for failure in failures:
        number = int(failure.split()[1].rstrip(":"))
        assert failure.startswith(f"line {number}: ")
        assert repr(keys[number]) in failure
    assert more == "... and 2 more failed"
    assert how == "What failed is not bought again by itself. To buy it again:"
    assert again == "  python -m omni_async batch p.txt --retry-failed"


async def test_a_wrong_key_stops_the_line(shell: Shell, sandbox: SandboxProcess) -> None:
    """A key that the server refuses ends with status 3 after few requests, and is shown and written nowhere."""
    secret = "sk-7hR2quiteWrong"
    submits = (await sandbox.record())["submits"]
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(300)))
    said = await shell.omni("batch", file, "-v", "--json", APIMART_API_KEY=secret)
    assert said.status == 3
    assert said.records[-1]["summary"]["left"] == 300
    assert "401" in said.err
    assert "left: 300 not sent. Go on:\n  python -m omni_async batch p.txt -v --json\n" in said.err
    assert (await sandbox.record())["submits"] - submits <= 16
    assert secret not in said.out + said.err
    written = [path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for content in written)


@pytest.mark.parametrize("sandbox", [{"credits": 18.0}], indirect=True)
async def test_no_credit_is_no_loss(shell: Shell, sandbox: SandboxProcess) -> None:
    """When the credit ends, what was accepted still becomes clips; the status is 3 and the rest is told."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(20)))
    said = await shell.omni("batch", file)
    made = (await sandbox.record())["accepted"]
    assert 0 < made < 20
    assert said.status == 3
    assert len([name for name in shell.clips() if name.endswith(".mp4")]) == made
    assert said.out.startswith(f"{made} of 20 clips in clips, $1.")
    assert f"left: {20 - made} not sent. Go on:\n  python -m omni_async batch p.txt\n" in said.err
    assert "402" in said.err


async def test_the_command_to_go_on_is_the_one_that_was_given(shell: Shell) -> None:
    """The command is quoted so that a shell reads it as it was meant."""
    name = shell.write("my prompts & more.txt", "a\n")
    said = await shell.omni("batch", name, "-o", "my clips", APIMART_API_KEY="wrong")
    (command,) = (line for line in said.err.splitlines() if line.startswith("  python"))
    assert shlex.split(command)[3:] == ["batch", name, "-o", "my clips"]


async def test_it_ends_when_nobody_reads(shell: Shell) -> None:
    """Where stdout is closed, as behind `head`, the run stops with status 3 instead of buying what nobody learns of."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(40)))
    process = await shell.start("batch", file, "--json", "--max-in-flight", "2")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    told = (await process.stderr.read()).decode()
    assert await process.wait() == 3
    assert "stopped early: stdout: Broken pipe" in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told
