"""The same command again: what is there stays, what is left goes on, and nothing is paid twice without being asked."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import LedgerReader
from tests.support.shell import PATIENCE, ended, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell


def as_jsonl(*records: object) -> str:
    """Spell records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


def prompts(number: int) -> str:
    """Give so many lines of .txt."""
    return "".join(f"prompt {each}\n" for each in range(number))


@pytest.mark.parametrize("sandbox", [{"median": 0.4, "sigma": 0.5, "cdn_rate": 400_000}], indirect=True)
async def test_a_killed_run_goes_on(shell: Shell, sandbox: SandboxProcess) -> None:
    """Killed twice in the middle, the same command makes what is left: every clip there, whole, and paid once."""
    file = shell.write("p.txt", prompts(30))
    for accepted in (4, 16):
        process = await shell.start("batch", file, "--max-in-flight", "6", "-v")
        await until(process, r"running, (task_\w+)", different=accepted)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    said = await shell.omni("batch", file)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("30 of 30 clips in clips, ")
    record = await sandbox.record()
    assert record["accepted"] == 30
    whole = [name for name in shell.clips() if name.endswith(".mp4")]
    assert len(whole) == 30
    assert shell.clips() == whole
    again = await shell.omni("batch", file)
    assert again.out.startswith("30 of 30 clips in clips, 30 of them from before, $0.00, ")
    assert (await sandbox.record())["submits"] == record["submits"]


async def test_an_edited_line_needs_another_id(shell: Shell, sandbox: SandboxProcess) -> None:
    """Ids that stood for other requests are told with their lines, together, with status 2; nothing is sent."""
    lines: list[dict[str, Any]] = [
        {"id": "apple", "prompt": "an apple", "aspect_ratio": "9:16"},
        {"id": "snow", "prompt": "now snow", "extend_from": "apple"},
        {"id": "pear", "prompt": "a pear"},
    ]
    assert (await shell.omni("batch", shell.write("p.jsonl", as_jsonl(*lines)))).status == 0
    submits = (await sandbox.record())["submits"]
    lines[0]["aspect_ratio"] = "16:9"
    new = {"prompt": "something new"}
    said = await shell.omni("batch", shell.write("p.jsonl", as_jsonl(new, *lines)))
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines() == [
        "p.jsonl:2: id 'apple' stood for another request before (completed)",
        "p.jsonl:3: id 'snow' stood for another request before (completed)",  # it takes the shape over from apple
        "Nothing was sent. clips/ledger.db remembers what each id stood for: give an edited line another id",
    ]
    assert (await sandbox.record())["submits"] == submits
    lines[0]["id"] = lines[1]["extend_from"] = "apple wide"
    lines[1]["id"] = "snow wide"
    mended = await shell.omni("batch", shell.write("p.jsonl", as_jsonl(new, *lines)))
    assert mended.status == 0
    assert mended.out.startswith("4 of 4 clips in clips, 1 of them from before, $")


async def test_failed_jobs_are_bought_again_only_when_asked_for(shell: Shell, sandbox: SandboxProcess) -> None:
    """Without --retry-failed they are named again with status 1 and nothing is sent; with it they are made."""
    await sandbox.script("submit", ["http_400"])
    family = [{"id": "apple", "prompt": "an apple"}, {"id": "snow", "prompt": "now snow", "extend_from": "apple"}]
    file = shell.write("p.jsonl", as_jsonl(*family))
    first = await shell.omni("batch", file)
    submits = (await sandbox.record())["submits"]
    second = await shell.omni("batch", file)
    for said in (first, second):
        assert said.status == 1
        assert said.out.startswith("0 of 2 clips in clips, 2 failed, $0.00")
        assert "line 1: job 'apple'" in said.err
        assert "To buy it again:\n  python -m omni_async batch p.jsonl --retry-failed\n" in said.err
    assert (await sandbox.record())["submits"] == submits
    again = await shell.omni("batch", file, "--retry-failed")
    assert (again.status, shell.clips()) == (0, ["apple.mp4", "snow.mp4"])


@pytest.mark.parametrize("sandbox", [{"idempotency": False}], indirect=True)
async def test_unknown_jobs_are_sent_again_only_when_asked_for(shell: Shell, sandbox: SandboxProcess) -> None:
    """A submit held for its unclear outcome stays unknown, run after run, until --unknown."""
    await sandbox.script("submit", ["drop_after"])
    file = shell.write("p.txt", prompts(1))
    for _ in range(2):
        said = await shell.omni("batch", file, "--ambiguous", "hold")
        assert said.status == 1
        assert said.out.startswith("0 of 1 clip in clips, 1 unknown, $0.00")
        assert "perhaps paying twice:\n  python -m omni_async batch p.txt --ambiguous hold --unknown\n" in said.err
    assert (await sandbox.record())["submits"] == 1
    assert (await shell.omni("batch", file, "--unknown")).status == 0
    assert (await sandbox.record())["submits"] == 2


@pytest.mark.parametrize("sandbox", [{"seconds": 7}], indirect=True)
async def test_a_limit_on_the_cost_stops_the_line(shell: Shell, sandbox: SandboxProcess) -> None:
    """--max-cost counts the whole folder: status 3, a clear sentence, nothing above it paid; a higher one goes on."""
    file = shell.write("p.txt", prompts(6))
    said = await shell.omni("batch", file, "--max-cost", "2", "--json")
    assert said.status == 3
    assert said.records[-1]["summary"]["cost"] == pytest.approx(1.86)  # three at 0.62: one more would pass it
    assert (await sandbox.record())["accepted"] == said.records[-1]["summary"]["clips"] == 3
    assert "stopped early: the cost limit of $2.00 leaves no room" in said.err
    assert "Go on with a higher limit:\n  python -m omni_async batch p.txt --max-cost ... --json\n" in said.err
    submits = (await sandbox.record())["submits"]
    resumed = await shell.omni("resume", "--max-cost", "1")
    assert resumed.status == 3
    assert (await sandbox.record())["submits"] == submits
    assert (await shell.omni("batch", file, "--max-cost", "20")).status == 0


async def test_a_clip_that_has_vanished_is_fetched_again(shell: Shell, sandbox: SandboxProcess) -> None:
    """Its task is asked for it; nothing is paid."""
    file = shell.write("p.txt", prompts(2))
    await shell.omni("batch", file)
    submits, clips = (await sandbox.record())["submits"], shell.clips()
    (shell.folder / "clips" / clips[0]).unlink()
    assert (await shell.omni("batch", file)).status == 0
    assert (shell.clips(), (await sandbox.record())["submits"]) == (clips, submits)


# Where there is no ledger to be had


def damage(path: Path) -> None:
    """Overwrite what stands after the head of the file."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(12288))


def make_newer(path: Path) -> None:
    """Give the file the version of a later program."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


def make_foreign(path: Path) -> None:
    """Put another program's database in its place."""
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (title)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (damage, "is damaged"),
        (make_newer, "was written by a newer omni_async"),
        (make_foreign, "is a database of another program"),
        (lambda path: path.write_text("no database at all, but quite a long text" * 99), "is not a ledger"),
    ],
    ids=["damaged", "newer", "foreign", "text"],
)
async def test_a_ledger_that_cannot_be_used_is_refused(
    shell: Shell, sandbox: SandboxProcess, harm: Callable[[Path], object], complaint: str
) -> None:
    """Every command says so in a sentence, with status 2; nothing is sent, and the file stays as it is."""
    file = shell.write("p.txt", prompts(3))
    await shell.omni("batch", file)
    ledger = shell.folder / "clips" / "ledger.db"
    harm(ledger)
    content, submits = ledger.read_bytes(), (await sandbox.record())["submits"]
    for command in (["batch", file], ["resume"], ["status"], ["fetch", "task_1"]):
        said = await shell.omni(*command)
        assert (said.status, said.out) == (2, ""), command
        assert complaint in said.err, command
        assert len(said.err.splitlines()) == 1
    assert ledger.read_bytes() == content
    assert (await sandbox.record())["submits"] == submits


@pytest.mark.parametrize("sandbox", [{"median": 20.0, "sigma": 0.0}], indirect=True)
async def test_one_process_owns_a_folder(shell: Shell, sandbox: SandboxProcess) -> None:
    """While a run is at work, another one in its folder is told by whom it is in use, with status 2."""
    process = await shell.start("generate", "a", "-v")
    await until(process, r"running, (task_\w+)")
    for command in (["generate", "b"], ["batch", shell.write("p.txt", "b\n")], ["resume"]):
        said = await shell.omni(*command)
        assert said.status == 2
        assert f"the ledger clips/ledger.db is in use by process {process.pid}" in said.err.replace(
            str(shell.folder.resolve()) + "/", ""
        )
    assert (await sandbox.record())["submits"] == 1
    process.send_signal(signal.SIGTERM)
    assert (await ended(process)).status == 130


@pytest.mark.parametrize(("size", "status"), [(2_000, 2), (600_000, 3)])
async def test_a_ledger_that_cannot_grow_stops_the_line(
    shell: Shell, sandbox: SandboxProcess, size: int, status: int
) -> None:
    """What cannot be recorded is not bought: status 2 where nothing was sent, else 3, and one sentence that says why.

    The same command then goes on where there is room again.
    """
    before = await sandbox.record()
    file = shell.write("p.txt", prompts(300))
    process = await asyncio.create_subprocess_exec(
        *(*shell.python, "-m", "omni_async", "batch", file, "--quiet"),
        cwd=shell.folder,
        env=shell.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    said = await ended(process)
    sent = (await sandbox.record())["submits"] - before["submits"]
    assert said.status == status
    assert (sent > 0) == (status == 3)
    assert "ledger.db cannot be" in said.err
    if status == 3:
        with LedgerReader(shell.folder / "clips") as reader:
            assert sum(record.task_id is not None for record in reader.jobs()) >= sent - 16
    async with asyncio.timeout(PATIENCE):
        assert (await shell.omni("batch", file)).status == 0
    assert (await sandbox.record())["accepted"] - before["accepted"] == 300


# Private sandboxes


async def test_a_private_sandbox_keeps_to_itself(bare_shell: Shell) -> None:
    """Its ledger is another one; clips of it are never taken for real ones, nor the other way round."""
    file = bare_shell.write("p.txt", "a\n")
    assert (await bare_shell.omni("batch", file, "--sandbox")).status == 0
    assert (bare_shell.folder / "clips" / "sandbox.db").is_file()
    assert not (bare_shell.folder / "clips" / "ledger.db").exists()
    said = await bare_shell.omni("batch", file, APIMART_API_KEY="sk-good", APIMART_BASE_URL="http://127.0.0.1:9")
    assert said.status == 2
    assert "clips holds clips of a private sandbox (sandbox.db), which are not real" in said.err
    resumed = await bare_shell.omni("resume")
    assert resumed.status == 2
    assert resumed.err.endswith("  python -m omni_async resume clips --sandbox\n")
    (bare_shell.folder / "clips" / "sandbox.db").rename(bare_shell.folder / "clips" / "ledger.db")
    real = await bare_shell.omni("batch", file, "--sandbox")
    assert real.status == 2
    assert "clips holds real clips (ledger.db)" in real.err


async def test_a_private_sandbox_begins_again(bare_shell: Shell) -> None:
    """What an interrupted run had on its way is made in a new sandbox; clips of before stay, also what extends them."""
    file = bare_shell.write(
        "p.jsonl",
        as_jsonl({"id": "apple", "prompt": "a"}, {"id": "snow", "prompt": "b", "extend_from": "apple"}),
    )
    process = await bare_shell.start("batch", file, "--sandbox", "-v")
    await until(process, "(apple: completed|snow: running)", different=2)
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).status == 130
    clip = bare_shell.folder / "clips" / "apple.mp4"
    made = clip.stat().st_mtime_ns
    resumed = await bare_shell.omni("resume", "--sandbox")
    assert (resumed.status, resumed.err) == (0, "")
    assert resumed.out.startswith("1 of 1 clip in clips, $")
    assert (bare_shell.clips(), clip.stat().st_mtime_ns) == (["apple.mp4", "snow.mp4"], made)
    again = await bare_shell.omni("batch", file, "--sandbox")
    assert again.out.startswith("2 of 2 clips in clips, 2 of them from before, $0.00")
