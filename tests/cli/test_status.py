"""`status` and `resume`: what the ledger of a folder records, and how its unfinished jobs are continued."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import omni_async.cli
from omni_async import JobRecord, JobStatus, LedgerTotals
from omni_async.cli.job_table import LedgerSummary
from tests.support.ledgers import opened, record_of
from tests.support.shell import wait_for_exit, wait_for_output

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell

JOB = {
    *("key", "status", "task_id", "path", "paths", "cost", "credits", "error", "submits"),
    "ambiguous_submits",
    *("possibly_paid_twice", "parent", "previous_task_ids", "previous_cost"),
    *("created_at", "submitted_at", "accepted_at", "finished_at"),
}
SUMMARY = {
    *("total", "clips", "failed", "unknown", "cancelled", "unfinished", "by_status", "cost", "credits", "submits"),
    *("ambiguous_submits", "possibly_paid_twice", "folder", "ledger", "sandbox"),
}


async def test_the_fields_of_status_are_a_contract(shell: Shell, sandbox: SandboxThread) -> None:
    """--json prints an object per job and a summary, each with exactly these fields; jobs, totals and server agree."""
    sandbox.script("submit", ["http_400"])
    lines = [{"id": "a", "prompt": "a"}, {"id": "b", "prompt": "b"}, {"id": "c", "prompt": "c", "extend_from": "b"}]
    file = shell.write("p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert (await shell.omni("batch", file, "--per-minute", "600")).status == 1
    result = await shell.omni("status", "--json", APIMART_API_KEY="", APIMART_BASE_URL="http://127.0.0.1:9")
    assert (result.status, result.err) == (0, "")
    *jobs, last = result.records
    by_key = {job["key"]: job for job in jobs}
    assert list(by_key) == ["a", "b", "c"]
    assert all(set(job) == JOB for job in jobs)
    assert set(last["summary"]) == SUMMARY
    readme = Path(omni_async.cli.__file__).with_name("README.md").read_text("utf-8")
    assert all(f"`{name}`" in readme for name in (*JOB, *SUMMARY, *JobStatus))
    tasks = sandbox.record.tasks
    assert [by_key[key]["status"] for key in "abc"] == ["failed", "completed", "completed"]
    assert by_key["a"]["task_id"] is by_key["a"]["path"] is by_key["a"]["cost"] is None
    assert "HTTP 400" in by_key["a"]["error"]
    for key, parent in (("b", None), ("c", "b")):
        job = by_key[key]
        assert (job["path"], job["paths"], job["error"]) == (f"clips/{key}.mp4", [f"clips/{key}.mp4"], None)
        assert (job["parent"], job["submits"], job["possibly_paid_twice"]) == (parent, 1, False)
        assert tasks[job["task_id"]].prompt == key
        assert job["created_at"] <= job["submitted_at"] <= job["accepted_at"] <= job["finished_at"]
    summary = last["summary"]
    assert (summary["total"], summary["clips"], summary["failed"]) == (3, 2, 1)
    assert (summary["unfinished"], summary["submits"]) == (0, 3)
    assert summary["by_status"] == {str(status): 0 for status in JobStatus} | {"completed": 2, "failed": 1}
    assert summary["cost"] == pytest.approx(sum(by_key[key]["cost"] for key in "bc"))
    assert (summary["folder"], summary["ledger"], summary["sandbox"]) == ("clips", "clips/ledger.db", False)
    failed = await shell.omni("status", "--json", "--status", "failed")
    assert [job.get("key") for job in failed.records] == ["a", None]
    assert failed.records[-1] == last


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"median": 3.0, "sigma": 0.0}], indirect=True)
async def test_status_works_during_a_run(shell: Shell) -> None:
    """During a batch, status shows what runs and waits and the command to continue, which works after a kill."""
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(4)))
    process = await shell.start("batch", file, "--max-in-flight", "2", "-v")
    await wait_for_output(process, r"running, (task_\w+)", different=2)
    async with asyncio.timeout(10):  # the event is emitted a moment before its row is on disk
        while "2 running" not in (result := await shell.omni("status")).out:
            await asyncio.sleep(0.05)
    assert (result.status, result.err) == (0, "")
    head, counts, paid, *_ = result.out.splitlines()
    assert (head, counts, paid) == ("clips/ledger.db: 4 jobs", "2 waiting, 2 running", "paid $0.00, 2 submits")
    assert "4 unfinished. If no other process is working on them:\n  python -m omni_async resume clips\n" in result.out
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    resumed = await shell.omni("resume")
    assert (resumed.status, resumed.err) == (0, "resuming: 2 jobs to submit (about $2.00), 2 to follow\n")
    assert resumed.out.startswith("4 of 4 clips in clips, $")
    done = await shell.omni("resume")
    assert (done.status, done.out) == (0, "")
    assert done.err == "nothing to resume in clips: 4 clips complete\n"


async def test_resume_resubmits_failed_jobs_only_on_request(shell: Shell, sandbox: SandboxThread) -> None:
    """Without --retry-failed, resume counts the failed jobs and sends nothing; with it they are submitted again."""
    sandbox.script("submit", ["http_400", "http_400"])
    file = shell.write("p.txt", "a\nb\nc\n")
    await shell.omni("batch", file)
    submits = sandbox.record.submits
    idle = await shell.omni("resume", "--json")
    assert (idle.status, idle.records) == (
        0,
        [{"summary": {"total": 0, "clips": 0, "failed": 0, "unknown": 0, "unfinished": 0, "exit_status": 0}}],
    )
    assert "2 failed (--retry-failed resubmits them)" in (await shell.omni("resume")).err
    assert sandbox.record.submits == submits
    again = await shell.omni("resume", "--retry-failed", "--json")
    assert again.status == 0
    assert again.records[-1]["summary"]["clips"] == 2
    assert len(shell.clips()) == 3


async def test_resume_submits_jobs_that_were_not_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """After a refused key, resume submits the recorded jobs; --json prints each job and the summary."""
    file = shell.write("p.txt", "a\nb\nc\n")
    assert (await shell.omni("batch", file, APIMART_API_KEY="wrong")).status == 3
    resumed = await shell.omni("resume", "--json")
    *jobs, last = resumed.records
    assert resumed.status == 0
    assert {job["status"] for job in jobs} == {"completed"}
    assert (last["summary"]["total"], last["summary"]["clips"]) == (3, 3)
    assert sandbox.record.accepted == 3


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"idempotency": False}], indirect=True)
async def test_status_finds_jobs_that_may_be_paid_twice(shell: Shell, sandbox: SandboxThread) -> None:
    """--status possibly-paid-twice shows the jobs whose submit was resent without a clear response before."""
    sandbox.script("submit", ["drop_after"])
    await shell.omni("batch", shell.write("p.txt", "a\nb\n"), "--max-in-flight", "1", "--on-ambiguous", "retry")
    (job, last) = (await shell.omni("status", "--json", "--status", "possibly-paid-twice")).records
    assert (job["possibly_paid_twice"], job["submits"], job["ambiguous_submits"]) == (True, 2, 1)
    assert (last["summary"]["possibly_paid_twice"], last["summary"]["total"]) == (1, 2)
    table = await shell.omni("status", "--status", "possibly-paid-twice")
    assert sum(line.startswith("completed ") for line in table.out.splitlines()) == 1
    none = await shell.omni("status", "--json", "--status", "timed_out")
    assert none.records == [last]


@pytest.mark.parametrize("command", ["status", "resume"])
async def test_a_folder_without_a_ledger_is_reported(bare_shell: Shell, command: str) -> None:
    """The command says so, with status 2, and creates nothing."""
    result = await bare_shell.omni(command, "elsewhere")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("elsewhere: no ledger found (ledger.db)")
    assert list(bare_shell.folder.iterdir()) == []


# The table


def drawn(records: list[JobRecord], width: int, *, height: int = 40, count: int = 0) -> list[str]:
    """Return the lines of the summary of a ledger on a screen of this size."""
    by_status = {status: sum(each.status is status for each in records) for status in {each.status for each in records}}
    totals = LedgerTotals(
        jobs=count or len(records),
        by_status=by_status,
        submits=sum(each.submits for each in records),
        ambiguous_submits=1,
        possibly_paid_twice=1,
        cost=123456.789,
        credits=1234567.89,
    )
    summary = LedgerSummary(
        Path("clips/ledger.db"), totals, records, count=totals.jobs, shows_all=False, is_sandbox=False
    )
    screen = io.StringIO()
    Console(file=screen, width=width, height=height, force_terminal=True, color_system=None).print(summary)
    return screen.getvalue().splitlines()


def record(number: int = 0, status: JobStatus = JobStatus.COMPLETED, **facts: Any) -> JobRecord:
    """Return the record of a job."""
    key = f"scene-{number}"
    made: dict[str, Any] = {"key": key, "status": status, "task_id": f"task_{number}", "submits": 1, "cost": 0.7}
    if status is JobStatus.COMPLETED:
        made["paths"] = (f"clips/{key}.mp4",)
    return JobRecord(**(made | facts))


def test_totals_come_before_the_table() -> None:
    """First counts, the cost to the cent and what may be paid twice; then one line per job, its error below it."""
    failed = record(1, JobStatus.FAILED, cost=None, error="job 'scene-1' (task task_1): the server gave up")
    lines = drawn([failed, record(2, ambiguous_submits=1, submits=3)], 100)
    assert lines[:3] == [
        "clips/ledger.db: 2 jobs",
        "1 completed, 1 failed",
        "paid $123,456.79 (1,234,567.9 credits), 4 submits",
    ]
    assert lines[3].startswith("possibly paid twice: 1 job (--status possibly-paid-twice)")
    assert lines[lines.index("") + 1 :] == [
        "status     key      task_id  submits   cost  clip",
        "failed     scene-1  task_1         1",
        "  the server gave up",
        "completed  scene-2  task_2        3?  $0.70  scene-2.mp4",
    ]


def test_a_small_screen_shows_what_fits() -> None:
    """The totals stay on the screen: only as many jobs are shown as fit, and the rest is counted."""
    lines = drawn([record(number) for number in range(20)], 100, height=24, count=100_000)
    assert len(lines) <= 23
    shown = sum(line.startswith("completed") for line in lines)
    assert 5 <= shown < 20
    assert lines[-1] == f"... and {100_000 - shown:,} more (--all, or --status STATUS)"


@given(
    width=st.integers(40, 200),
    key=st.text(min_size=1, max_size=120),
    error=st.text(max_size=300),
    status=st.sampled_from(JobStatus),
)
@settings(deadline=None)
def test_the_table_fits_every_width(width: int, key: str, error: str, status: JobStatus) -> None:
    """From 40 columns up no line is too wide, and no control character of a key or an error is printed."""
    key, error = (text.encode("utf-8", "replace").decode() for text in (key, error))
    lines = drawn([record(status=status, key=key, error=error)], width)
    assert all(cell_len(line) <= width for line in lines)
    assert not any(ord(mark) < 32 or 127 <= ord(mark) < 160 for line in lines for mark in line)


@pytest.mark.slow
async def test_watch_shows_a_run_to_its_end(bare_shell: Shell) -> None:
    """--watch prints what changes, ends by itself with status 0 when no job waits or runs, and no change is missing."""
    (bare_shell.folder / "clips").mkdir()
    async with opened(bare_shell.folder / "clips" / "ledger.db") as ledger:
        records = [record_of(key, status=JobStatus.RUNNING, task_id=f"task_{key}", submits=1) for key in "ab"]
        for record in records:
            await ledger.insert(record)
        watches = [await bare_shell.start("status", "--watch", *options) for options in ([], ["--json"])]
        firsts = [await anext(aiter(process.stdout)) for process in watches if process.stdout is not None]
        await ledger.save(replace(records[0], status=JobStatus.FAILED, error="moderated"))
        await ledger.save(replace(records[1], status=JobStatus.COMPLETED, cost=0.5))
        for_people, for_programs = [await wait_for_exit(process) for process in watches]
    assert (for_programs.status, for_programs.err) == (for_people.status, for_people.err) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d 2 running, paid \$0.00\n", firsts[0].decode())
    assert re.fullmatch(r"\d\d:\d\d:\d\d 1 completed, 1 failed, paid \$0.50", for_people.out.splitlines()[-1])
    summaries = [record["summary"] for record in for_programs.records if "summary" in record]
    assert (summaries[0]["unfinished"], summaries[-1]["unfinished"]) == (2, 0)
    assert all(one != other for one, other in itertools.pairwise(summaries))
    last = {record["key"]: record["status"] for record in for_programs.records if "key" in record}
    assert last == {"a": "failed", "b": "completed"}


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"median": 60.0}], indirect=True)
async def test_watch_ends_at_an_interrupt(shell: Shell) -> None:
    """Jobs that no process works on any more are watched until Ctrl-C, which ends with status 130."""
    run = await shell.start("generate", "a", "-v")
    await wait_for_output(run, r"running, (task_\w+)")
    run.kill()
    await run.wait()
    process = await shell.start("status", "--watch")
    assert process.stdout is not None
    assert re.search(rb"1 (running|submitting)", await process.stdout.readline())
    process.send_signal(signal.SIGINT)
    result = await wait_for_exit(process)
    assert (result.status, result.out) == (130, "")


async def test_watch_of_a_finished_folder_ends_at_once(shell: Shell) -> None:
    """Where nothing is left to happen, --watch shows the folder once."""
    assert (await shell.omni("generate", "a")).status == 0
    result = await shell.omni("status", "--watch")
    assert (result.status, result.err) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d 1 completed, paid \$\d\.\d\d\n", result.out)
