"""`status` and `resume`: what the ledger of a folder knows, and how it goes on."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from omni_async import JobRecord, JobStatus, LedgerTotals
from omni_async.cli.job_table import LedgerSummary
from tests.support.shell import until

if TYPE_CHECKING:
    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell

JOB = {
    *("key", "status", "task_id", "path", "paths", "cost", "credits", "error", "submits", "doubtful"),
    *("possibly_paid_twice", "parent", "earlier_task_ids", "earlier_cost"),
    *("created_at", "submitted_at", "accepted_at", "finished_at"),
}
SUMMARY = {
    *("total", "clips", "failed", "unknown", "cancelled", "left", "by_status", "cost", "credits", "submits"),
    *("doubtful", "possibly_paid_twice", "folder", "ledger", "sandbox"),
}


async def test_json_is_a_contract(shell: Shell, sandbox: SandboxProcess) -> None:
    """--json: an object a job, a summary last, each with just these fields; the sums agree with jobs and server."""
    await sandbox.script("submit", ["http_400"])
    lines = [{"id": "a", "prompt": "a"}, {"id": "b", "prompt": "b"}, {"id": "c", "prompt": "c", "extend_from": "b"}]
    file = shell.write("p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert (await shell.omni("batch", file, "--per-minute", "600")).status == 1
    said = await shell.omni("status", "--json", APIMART_API_KEY="", APIMART_BASE_URL="http://127.0.0.1:9")
    assert (said.status, said.err) == (0, "")
    *jobs, last = said.records
    told = {job["key"]: job for job in jobs}
    assert list(told) == ["a", "b", "c"]
    assert all(set(job) == JOB for job in jobs)
    assert set(last["summary"]) == SUMMARY
    tasks = (await sandbox.record())["tasks"]
    assert [told[key]["status"] for key in "abc"] == ["failed", "completed", "completed"]
    assert told["a"]["task_id"] is told["a"]["path"] is told["a"]["cost"] is None
    assert "HTTP 400" in told["a"]["error"]
    for key, parent in (("b", None), ("c", "b")):
        job = told[key]
        assert (job["path"], job["paths"], job["error"]) == (f"clips/{key}.mp4", [f"clips/{key}.mp4"], None)
        assert (job["parent"], job["submits"], job["possibly_paid_twice"]) == (parent, 1, False)
        assert tasks[job["task_id"]]["prompt"] == key
        assert job["created_at"] <= job["submitted_at"] <= job["accepted_at"] <= job["finished_at"]
    sums = last["summary"]
    assert (sums["total"], sums["clips"], sums["failed"], sums["left"], sums["submits"]) == (3, 2, 1, 0, 3)
    assert sums["by_status"] == {str(status): 0 for status in JobStatus} | {"completed": 2, "failed": 1}
    assert sums["cost"] == pytest.approx(sum(told[key]["cost"] for key in "bc"))
    assert (sums["folder"], sums["ledger"], sums["sandbox"]) == ("clips", "clips/ledger.db", False)
    failed = await shell.omni("status", "--json", "--state", "failed")
    assert [job.get("key") for job in failed.records] == ["a", None]
    assert failed.records[-1] == last


@pytest.mark.parametrize("sandbox", [{"median": 3.0, "sigma": 0.0}], indirect=True)
async def test_it_looks_on_while_a_run_is_at_work(shell: Shell) -> None:
    """During a batch it shows what runs and what waits, and how to go on; resume is then refused, later it goes on."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(4)))
    process = await shell.start("batch", file, "--max-in-flight", "2", "-v")
    await until(process, r"running, (task_\w+)", different=2)
    said = await shell.omni("status")
    assert (said.status, said.err) == (0, "")
    head, counts, paid, *_ = said.out.splitlines()
    assert (head, counts, paid) == ("clips/ledger.db: 4 jobs", "2 waiting, 2 running", "paid $0.00, 2 submits")
    assert "4 unfinished. If nothing is at work on them:\n  python -m omni_async resume clips\n" in said.out
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    resumed = await shell.omni("resume")
    assert (resumed.status, resumed.err) == (0, "")
    assert resumed.out.startswith("4 of 4 clips in clips, $")
    done = await shell.omni("resume")
    assert (done.status, done.out) == (0, "")
    assert done.err == "nothing is unfinished in clips: 4 clips there\n"


async def test_resume_takes_up_what_ended_badly_only_when_asked_for(shell: Shell, sandbox: SandboxProcess) -> None:
    """Without --failed it says how many there are, and sends nothing; with it they are bought again."""
    await sandbox.script("submit", ["http_400", "http_400"])
    file = shell.write("p.txt", "a\nb\nc\n")
    await shell.omni("batch", file)
    submits = (await sandbox.record())["submits"]
    idle = await shell.omni("resume", "--json")
    assert (idle.status, idle.records) == (
        0,
        [{"summary": {"total": 0, "clips": 0, "failed": 0, "unknown": 0, "left": 0, "exit": 0}}],
    )
    assert "2 failed (--failed sends them again)" in (await shell.omni("resume")).err
    assert (await sandbox.record())["submits"] == submits
    again = await shell.omni("resume", "--failed", "--json")
    assert again.status == 0
    assert again.records[-1]["summary"]["clips"] == 2
    assert len(shell.clips()) == 3


async def test_an_interrupted_folder_goes_on_by_itself(shell: Shell, sandbox: SandboxProcess) -> None:
    """After a refused key, resume sends what was recorded and not sent; --json tells each job and the sum."""
    file = shell.write("p.txt", "a\nb\nc\n")
    assert (await shell.omni("batch", file, APIMART_API_KEY="wrong")).status == 3
    accepted = (await sandbox.record())["accepted"]
    resumed = await shell.omni("resume", "--json")
    *jobs, last = resumed.records
    assert resumed.status == 0
    assert {job["status"] for job in jobs} == {"completed"}
    assert (last["summary"]["total"], last["summary"]["clips"]) == (3, 3)
    assert (await sandbox.record())["accepted"] == accepted + 3


@pytest.mark.parametrize("command", ["status", "resume"])
async def test_where_there_is_no_ledger(bare_shell: Shell, command: str) -> None:
    """It says so, with status 2, and makes nothing."""
    said = await bare_shell.omni(command, "elsewhere")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("elsewhere: there is no ledger here (ledger.db)")
    assert list(bare_shell.folder.iterdir()) == []


# What it looks like


def drawn(records: list[JobRecord], width: int, *, height: int = 40, of: int = 0) -> list[str]:
    """Draw a sheet on a screen of this size."""
    counts = {status: sum(each.status is status for each in records) for status in {each.status for each in records}}
    totals = LedgerTotals(
        jobs=of or len(records),
        by_status=counts,
        submits=sum(each.submits for each in records),
        ambiguous_submits=1,
        possibly_paid_twice=1,
        cost=123456.789,
        credits=1234567.89,
    )
    sheet = LedgerSummary(Path("clips/ledger.db"), totals, records, of=totals.jobs, is_whole=False, is_sandbox=False)
    screen = io.StringIO()
    Console(file=screen, width=width, height=height, force_terminal=True, color_system=None).print(sheet)
    return screen.getvalue().splitlines()


def record(number: int = 0, status: JobStatus = JobStatus.COMPLETED, **facts: Any) -> JobRecord:
    """Make a job."""
    key = f"scene-{number}"
    made: dict[str, Any] = {"key": key, "status": status, "task_id": f"task_{number}", "submits": 1, "cost": 0.7}
    if status is JobStatus.COMPLETED:
        made["paths"] = (f"clips/{key}.mp4",)
    return JobRecord(**(made | facts))


def test_sums_come_first_then_columns() -> None:
    """Counts, money to the cent, what may be paid twice; then a line a job, and below it what went wrong."""
    failed = record(1, JobStatus.FAILED, cost=None, error="job 'scene-1' (task task_1): the server gave it up")
    lines = drawn([failed, record(2, ambiguous_submits=1, submits=3)], 100)
    assert lines[:3] == [
        "clips/ledger.db: 2 jobs",
        "1 completed, 1 failed",
        "paid $123,456.79 (1,234,567.9 credits), 4 submits",
    ]
    assert lines[3].startswith("possibly paid twice: 1 job (--state doubtful)")
    assert lines[lines.index("") + 1 :] == [
        "state      key      task_id  tries   cost  clip",
        "failed     scene-1  task_1       1",
        "  the server gave it up",
        "completed  scene-2  task_2      3?  $0.70  scene-2.mp4",
    ]


def test_a_small_screen_shows_what_fits() -> None:
    """The sums stay on the screen: so many jobs as have room, and how many more there are."""
    lines = drawn([record(number) for number in range(20)], 100, height=24, of=100_000)
    assert len(lines) <= 23
    shown = sum(line.startswith("completed") for line in lines)
    assert 5 <= shown < 20
    assert lines[-1] == f"... and {100_000 - shown:,} more (--all, or --state STATE)"


@given(
    width=st.integers(40, 200),
    key=st.text(min_size=1, max_size=120),
    error=st.text(max_size=300),
    status=st.sampled_from(JobStatus),
)
@settings(deadline=None)
def test_the_sheet_fits_every_width(width: int, key: str, error: str, status: JobStatus) -> None:
    """From 40 columns on no line is too wide, and nothing in keys or errors steers the terminal."""
    key, error = (text.encode("utf-8", "replace").decode() for text in (key, error))
    lines = drawn([record(status=status, key=key, error=error)], width)
    assert all(cell_len(line) <= width for line in lines)
    assert not any(ord(mark) < 32 or 127 <= ord(mark) < 160 for line in lines for mark in line)
