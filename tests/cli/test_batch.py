"""`batch`: a file of requests becomes a folder of clips; failures are named, and an early end says how to continue."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import omni_async.cli
from omni_async import batch

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell


README = Path(omni_async.cli.__file__).with_name("README.md").read_text("utf-8")


def as_jsonl(*records: object) -> str:
    """Return the records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.slow
async def test_every_line_becomes_a_clip(shell: Shell, sandbox: SandboxThread) -> None:
    """The folder holds one clip per line, named by its key; a line that extends another sends that line's task id.

    The summary is the only result on stdout. The same command again submits nothing and needs no server.
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
    result = await shell.omni("batch", file)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("3 of 3 clips in clips, $")
    assert shell.clips() == sorted(["apple.mp4", "snow.mp4", f"{pear}.mp4"])

    tasks = {task.prompt: task for task in sandbox.record.tasks.values()}
    assert tasks["now snow"].body["extend_from_task_id"] == tasks["an apple on a hill"].task_id
    assert tasks["now snow"].body["aspect_ratio"] == "9:16"

    again = await shell.omni("batch", file, APIMART_BASE_URL="http://127.0.0.1:9")
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("3 of 3 clips in clips, 3 already complete, $0.00")


async def test_json_prints_one_line_per_job_and_a_summary(shell: Shell) -> None:
    """With --json, stdout is JSON lines only, also for clips of earlier runs; the totals agree with the jobs."""
    file = shell.write("prompts.txt", "an apple\n\na pear\n")
    await shell.omni("batch", shell.write("one.txt", "a pear\n"))
    result = await shell.omni("batch", file, "--json")
    assert (result.status, result.err) == (0, "prompts.txt: 1 blank line skipped\n")
    *jobs, last = result.records
    assert {(job["line"], job["status"], job["error"]) for job in jobs} == {
        (1, "completed", None),
        (3, "completed", None),
    }
    assert all((shell.folder / job["path"]).is_file() and job["paths"] == [job["path"]] for job in jobs)
    new = [job["cost"] for job in jobs if job["line"] == 1]
    summary = last["summary"]
    assert sum(new) == pytest.approx(summary["cost"])
    assert (summary["total"], summary["clips"], summary["already_complete"]) == (2, 2, 1)
    assert (summary["failed"], summary["unfinished"]) == (0, 0)


async def test_the_fields_of_a_run_are_a_contract(shell: Shell) -> None:
    """--json prints exactly the documented fields of a job and of the summary."""
    result = await shell.omni("batch", shell.write("p.txt", "a\n"), "--json")
    job, last = result.records
    assert set(job) == {"key", "line", "status", "task_id", "path", "paths", "cost", "error", "error_type"}
    assert all(f"`{name}`" in README for name in (*job, *last["summary"]))
    assert set(last["summary"]) == {
        *("total", "clips", "already_complete", "failed", "unknown"),
        *("unfinished", "unfinished_accepted", "unfinished_ambiguous", "cost", "credits", "seconds", "folder"),
        *("exit_status", "stop_reason", "submits", "rate_limited", "ambiguous_submits", "checks", "bytes_downloaded"),
    }


async def test_an_invalid_file_is_not_submitted(shell: Shell, sandbox: SandboxThread) -> None:
    """Every invalid line is reported as FILE:NUMBER: reason, the status is 2, and the server receives nothing."""
    file = shell.write("p.jsonl", '{"prompt": "good"}\n{"promt": "a"}\n\n{"prompt": "a", "aspect_ratio": "1:1"}\n')
    result = await shell.omni("batch", file)
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines() == [
        "p.jsonl:2: unknown field 'promt'; did you mean 'prompt'?",
        "p.jsonl:4: aspect_ratio must be '16:9' or '9:16', not '1:1' (model gemini-omni-flash-preview)",
    ]
    missing = await shell.omni("batch", "none.txt")
    assert (missing.status, missing.err) == (2, "none.txt: the file cannot be read: No such file or directory\n")
    assert sandbox.record.submits == 0


@pytest.mark.parametrize("sandbox", [{"fail_rate": 1.0}], indirect=True)
async def test_failed_lines_are_named(shell: Shell) -> None:
    """Failures end with status 1; the first ten are named by line and key, the rest are counted."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(12)))
    result = await shell.omni("batch", file)
    assert result.status == 1
    assert result.out.startswith("0 of 12 clips in clips, 12 failed, $0.00")
    *failures, more, how, again = result.err.splitlines()
    keys = {line.number: line.key for line in batch.read(shell.folder / file)}
    assert len(failures) == 10
    for failure in failures:
        number = int(failure.split()[1].rstrip(":"))
        assert failure.startswith(f"line {number}: ")
        assert repr(keys[number]) in failure
    assert more == "... and 2 more failed"
    assert how == "Failed jobs are not retried automatically. To retry them:"
    assert again == "  python -m omni_async batch p.txt --retry-failed"


async def test_a_refused_key_stops_all_submits(shell: Shell, sandbox: SandboxThread) -> None:
    """A key that the server refuses ends with status 3 after few requests, and is never printed or written."""
    secret = "sk-7hR2quiteWrong"
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(300)))
    result = await shell.omni("batch", file, "-v", "--json", APIMART_API_KEY=secret)
    assert result.status == 3
    assert result.records[-1]["summary"]["unfinished"] == 300
    assert "401" in result.err
    assert "unfinished: 300 not sent. To continue:\n  python -m omni_async batch p.txt -v --json\n" in result.err
    assert sandbox.record.submits <= 16
    assert secret not in result.out + result.err
    written = [path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for content in written)


@pytest.mark.parametrize("sandbox", [{"credits": 18.0}], indirect=True)
async def test_accepted_jobs_are_finished_when_the_credit_ends(shell: Shell, sandbox: SandboxThread) -> None:
    """When the credit is used up, accepted jobs still become clips; the status is 3, and the rest is counted."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(20)))
    result = await shell.omni("batch", file)
    made = sandbox.record.accepted
    assert 0 < made < 20
    assert result.status == 3
    assert len([name for name in shell.clips() if name.endswith(".mp4")]) == made
    assert result.out.startswith(f"{made} of 20 clips in clips, $1.")
    assert f"unfinished: {20 - made} not sent. To continue:\n  python -m omni_async batch p.txt\n" in result.err
    assert result.err.count("HTTP 402") == 1


async def test_the_command_to_continue_is_quoted_for_a_shell(shell: Shell) -> None:
    """The command is the one that was run, quoted so that a shell reads the same arguments."""
    name = shell.write("my prompts & more.txt", "a\n")
    result = await shell.omni("batch", name, "-o", "my clips", APIMART_API_KEY="wrong")
    (command,) = (line for line in result.err.splitlines() if line.startswith("  python"))
    assert shlex.split(command)[3:] == ["batch", name, "-o", "my clips"]
