"""The same command again: complete clips are kept, the rest continues, and nothing is paid twice unless requested."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import LedgerReader
from tests.support.markers import slow_after
from tests.support.shell import TIMEOUT, wait_for_exit, wait_for_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell


def as_jsonl(*records: object) -> str:
    """Return the records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


def prompts(number: int) -> str:
    """Return this many lines of .txt."""
    return "".join(f"prompt {each}\n" for each in range(number))


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"median": 0.4, "sigma": 0.5, "cdn_rate": 400_000}], indirect=True)
async def test_a_killed_run_continues(shell: Shell, sandbox: SandboxThread) -> None:
    """After two kills the same command makes the remaining clips: each one complete and paid for once."""
    file = shell.write("p.txt", prompts(30))
    for accepted in (4, 16):
        process = await shell.start("batch", file, "--max-in-flight", "6", "-v")
        await wait_for_output(process, r"running, (task_\w+)", different=accepted)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    result = await shell.omni("batch", file)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("30 of 30 clips in clips, ")
    record = sandbox.record
    assert record.accepted == 30
    complete = [name for name in shell.clips() if name.endswith(".mp4")]
    assert len(complete) == 30
    assert shell.clips() == complete
    again = await shell.omni("batch", file)
    assert again.out.startswith("30 of 30 clips in clips, 30 already complete, $0.00, ")
    assert sandbox.record.submits == record.submits


@pytest.mark.slow
async def test_an_edited_line_needs_a_new_id(shell: Shell, sandbox: SandboxThread) -> None:
    """Ids that already name other requests are reported with their lines, with status 2; nothing is submitted."""
    lines: list[dict[str, Any]] = [
        {"id": "apple", "prompt": "an apple", "aspect_ratio": "9:16"},
        {"id": "snow", "prompt": "now snow", "extend_from": "apple"},
        {"id": "pear", "prompt": "a pear"},
    ]
    assert (await shell.omni("batch", shell.write("p.jsonl", as_jsonl(*lines)))).status == 0
    submits = sandbox.record.submits
    lines[0]["aspect_ratio"] = "16:9"
    new = {"prompt": "something new"}
    result = await shell.omni("batch", shell.write("p.jsonl", as_jsonl(new, *lines)))
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines() == [
        "p.jsonl:2: id 'apple' already names another request (completed)",
        "p.jsonl:3: id 'snow' already names another request (completed)",  # it inherits the ratio of apple
        "Nothing was submitted. clips/ledger.db records one request per id: give an edited line a new id",
    ]
    assert sandbox.record.submits == submits
    lines[0]["id"] = lines[1]["extend_from"] = "apple wide"
    lines[1]["id"] = "snow wide"
    fixed = await shell.omni("batch", shell.write("p.jsonl", as_jsonl(new, *lines)))
    assert fixed.status == 0
    assert fixed.out.startswith("4 of 4 clips in clips, 1 already complete, $")


async def test_failed_jobs_are_resubmitted_only_on_request(shell: Shell, sandbox: SandboxThread) -> None:
    """Without --retry-failed they are listed again with status 1 and nothing is sent; with it they are resubmitted."""
    sandbox.script("submit", ["http_400"])
    lines = [{"id": "apple", "prompt": "an apple"}, {"id": "snow", "prompt": "now snow", "extend_from": "apple"}]
    file = shell.write("p.jsonl", as_jsonl(*lines))
    first = await shell.omni("batch", file)
    submits = sandbox.record.submits
    second = await shell.omni("batch", file)
    for result in (first, second):
        assert result.status == 1
        assert result.out.startswith("0 of 2 clips in clips, 2 failed, $0.00")
        assert "line 1: job 'apple'" in result.err
        assert "To retry them:\n  python -m omni_async batch p.jsonl --retry-failed\n" in result.err
    assert sandbox.record.submits == submits
    again = await shell.omni("batch", file, "--retry-failed")
    assert (again.status, shell.clips()) == (0, ["apple.mp4", "snow.mp4"])


@pytest.mark.parametrize("sandbox", [{"idempotency": False}], indirect=True)
async def test_unknown_jobs_are_resubmitted_only_on_request(shell: Shell, sandbox: SandboxThread) -> None:
    """A submit that is held because its outcome is ambiguous stays unknown in later runs, until --retry-unknown."""
    sandbox.script("submit", ["drop_after"])
    file = shell.write("p.txt", prompts(1))
    for _ in range(2):
        result = await shell.omni("batch", file, "--on-ambiguous", "hold")
        assert result.status == 1
        assert result.out.startswith("0 of 1 clip in clips, 1 unknown, $0.00")
        command = "python -m omni_async batch p.txt --on-ambiguous hold --retry-unknown"
        assert f"at the risk of paying twice:\n  {command}\n" in result.err
    assert sandbox.record.submits == 1
    assert (await shell.omni("batch", file, "--retry-unknown")).status == 0
    assert sandbox.record.submits == 2


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"seconds": 7}], indirect=True)
async def test_a_cost_limit_stops_all_submits(shell: Shell, sandbox: SandboxThread) -> None:
    """--max-cost counts the whole folder: status 3, a clear message, no cost above it; a higher limit continues."""
    file = shell.write("p.txt", prompts(6))
    result = await shell.omni("batch", file, "--max-cost", "2", "--json")
    assert result.status == 3
    assert result.records[-1]["summary"]["cost"] == pytest.approx(1.848)  # three at 0.616: one more would pass it
    assert sandbox.record.accepted == result.records[-1]["summary"]["clips"] == 3
    assert "stopped early: the cost limit of $2.00 leaves no room" in result.err
    assert "To continue with a higher limit:\n  python -m omni_async batch p.txt --max-cost ... --json\n" in result.err
    submits = sandbox.record.submits
    resumed = await shell.omni("resume", "--max-cost", "1")
    assert resumed.status == 3
    assert sandbox.record.submits == submits
    assert (await shell.omni("batch", file, "--max-cost", "20")).status == 0


async def test_a_missing_clip_is_downloaded_again(shell: Shell, sandbox: SandboxThread) -> None:
    """The same command restores a deleted file from its task, without paying."""
    file = shell.write("p.txt", prompts(2))
    await shell.omni("batch", file)
    submits, clips = sandbox.record.submits, shell.clips()
    (shell.folder / "clips" / clips[0]).unlink()
    assert (await shell.omni("batch", file)).status == 0
    assert (shell.clips(), sandbox.record.submits) == (clips, submits)


# Ledgers that cannot be used


def corrupt(path: Path) -> None:
    """Overwrite the file after its first page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(12288))


def make_newer(path: Path) -> None:
    """Set the schema version of a later release."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


def make_foreign(path: Path) -> None:
    """Replace the file by the database of another program."""
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (title)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("change", "message"),
    slow_after(
        2,
        [
            (corrupt, "is damaged"),
            (make_newer, "was written by a newer omni_async"),
            (make_foreign, "is a database of another program"),
            (lambda path: path.write_text("no database at all, but quite a long text" * 99), "is not a ledger"),
        ],
    ),
    ids=["damaged", "newer", "foreign", "text"],
)
async def test_an_unusable_ledger_is_rejected(
    shell: Shell, sandbox: SandboxThread, change: Callable[[Path], object], message: str
) -> None:
    """Every command says so in one line, with status 2; nothing is submitted, and the file is not changed."""
    file = shell.write("p.txt", prompts(3))
    await shell.omni("batch", file)
    ledger = shell.folder / "clips" / "ledger.db"
    change(ledger)
    content, submits = ledger.read_bytes(), sandbox.record.submits
    for command in (["batch", file], ["resume"], ["status"], ["fetch", "task_1"]):
        result = await shell.omni(*command)
        assert (result.status, result.out) == (2, ""), command
        assert message in result.err, command
        assert len(result.err.splitlines()) == 1
    assert ledger.read_bytes() == content
    assert sandbox.record.submits == submits


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"median": 20.0, "sigma": 0.0}], indirect=True)
async def test_one_process_owns_a_folder(shell: Shell, sandbox: SandboxThread) -> None:
    """During a run, another one in the same folder ends with status 2 and names the process that uses the ledger."""
    process = await shell.start("generate", "a", "-v")
    await wait_for_output(process, r"running, (task_\w+)")
    for command in (["generate", "b"], ["batch", shell.write("p.txt", "b\n")], ["resume"]):
        result = await shell.omni(*command)
        assert result.status == 2
        assert f"the ledger clips/ledger.db is in use by process {process.pid}" in result.err.replace(
            str(shell.folder.resolve()) + "/", ""
        )
    assert sandbox.record.submits == 1
    process.send_signal(signal.SIGTERM)
    assert (await wait_for_exit(process)).status == 130


@pytest.mark.slow
@pytest.mark.parametrize(("size", "status"), [(2_000, 2), (1_500_000, 3)])
async def test_a_ledger_that_cannot_grow_stops_all_submits(
    shell: Shell, sandbox: SandboxThread, size: int, status: int
) -> None:
    """A job that cannot be recorded is not submitted: status 2 if nothing was sent, else 3, and a message says why.

    The same command continues once the file can grow.
    """
    file = shell.write("p.txt", prompts(300))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omni_async", "batch", file, "--quiet"),
        cwd=shell.folder,
        # Python 3.11 would keep what the limit leaves of a compiled module, and later processes could not import it.
        env={**shell.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    result = await wait_for_exit(process)
    sent = sandbox.record.submits
    assert result.status == status
    assert (sent > 0) == (status == 3)
    assert "ledger.db cannot be" in result.err
    if status == 3:
        with LedgerReader(shell.folder / "clips") as reader:
            assert sum(record.task_id is not None for record in reader.jobs()) >= sent - 16
    async with asyncio.timeout(TIMEOUT):
        assert (await shell.omni("batch", file)).status == 0
    assert sandbox.record.accepted == 300


# Private sandboxes


@pytest.mark.slow
async def test_sandbox_clips_and_real_clips_never_share_a_folder(bare_shell: Shell) -> None:
    """A private sandbox has a ledger of its own, and no command mixes its clips with real ones."""
    file = bare_shell.write("p.txt", "a\n")
    assert (await bare_shell.omni("batch", file, "--sandbox")).status == 0
    assert (bare_shell.folder / "clips" / "sandbox.db").is_file()
    assert not (bare_shell.folder / "clips" / "ledger.db").exists()
    result = await bare_shell.omni("batch", file, APIMART_API_KEY="sk-good", APIMART_BASE_URL="http://127.0.0.1:9")
    assert result.status == 2
    assert "clips contains sandbox clips (sandbox.db), not real ones" in result.err
    resumed = await bare_shell.omni("resume")
    assert resumed.status == 2
    assert resumed.err.endswith("  python -m omni_async resume clips --sandbox\n")
    (bare_shell.folder / "clips" / "sandbox.db").rename(bare_shell.folder / "clips" / "ledger.db")
    real = await bare_shell.omni("batch", file, "--sandbox")
    assert real.status == 2
    assert "clips contains real clips (ledger.db)" in real.err


@pytest.mark.slow
async def test_an_interrupted_sandbox_run_continues_in_a_new_sandbox(bare_shell: Shell) -> None:
    """Complete clips are kept, and unfinished jobs run in the new sandbox, also those that extend a kept clip."""
    file = bare_shell.write(
        "p.jsonl",
        as_jsonl({"id": "apple", "prompt": "a"}, {"id": "snow", "prompt": "b", "extend_from": "apple"}),
    )
    process = await bare_shell.start("batch", file, "--sandbox", "-v")
    await wait_for_output(process, "(apple: completed|snow: running)", different=2)
    process.send_signal(signal.SIGINT)
    assert (await wait_for_exit(process)).status == 130
    clip = bare_shell.folder / "clips" / "apple.mp4"
    made = clip.stat().st_mtime_ns
    resumed = await bare_shell.omni("resume", "--sandbox")
    assert (resumed.status, resumed.err) == (0, "")
    assert resumed.out.startswith("1 of 1 clip in clips, $")
    assert (bare_shell.clips(), clip.stat().st_mtime_ns) == (["apple.mp4", "snow.mp4"], made)
    again = await bare_shell.omni("batch", file, "--sandbox")
    assert again.out.startswith("2 of 2 clips in clips, 2 already complete, $0.00")
