"""`omni-async reconcile`: the ledger of a folder against the bill of a real server, end to end."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from omni_async.cli import reconciliation

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import CommandResult, Shell

SILENT = {"idempotency": False}


def verdict(result: CommandResult) -> dict[str, object]:
    """Return the verdict on the only model."""
    [found] = result.records[-1]["summary"]["models"]
    assert isinstance(found, dict)
    return found


async def test_a_ledger_that_was_billed_once_agrees(shell: Shell, sandbox: SandboxThread) -> None:
    """After a batch the bill has the same tasks at the same cost: status 0, and every sum is that of the server."""
    sandbox.script("submit", ["http_400"])
    file = shell.write("p.txt", "".join(f"prompt {number}\n" for number in range(4)))
    assert (await shell.omni("batch", file, "--max-in-flight", "1")).status == 1
    result = await shell.omni("reconcile", "clips")
    assert (result.status, result.err) == (0, "")
    assert "the ledger and the bill agree" in result.out
    rows = (await shell.omni("reconcile", "--json", "--time-zone", "UTC")).records[:-1]
    assert sum(row["ledger"]["tasks"] for row in rows) == sum(row["billed"]["tasks"] for row in rows) == 3
    assert sum(row["billed"]["cost"] for row in rows) == pytest.approx(sandbox.record.paid)


@pytest.mark.parametrize("sandbox", [SILENT], indirect=True)
async def test_a_second_payment_is_found(shell: Shell, sandbox: SandboxThread) -> None:
    """An answer is lost, the submit is sent again, and the server ignores the key: the bill shows it, status 1."""
    sandbox.script("submit", [None, "drop_after"])
    file = shell.write("p.jsonl", "".join(json.dumps({"id": key, "prompt": key}) + "\n" for key in ("one", "two")))
    run = await shell.omni("batch", file, "--on-ambiguous", "retry", "--max-in-flight", "1")
    assert run.status == 0
    assert sandbox.record.accepted == 3
    paid = sorted(task.price for task in sandbox.record.tasks.values())
    result = await shell.omni("reconcile", "clips")
    assert result.status == 1
    twice = next(task.price for task in sandbox.record.tasks.values() if task.prompt == "two")
    assert f"billed and not in the ledger: 1 task, ${twice:.2f}" in result.out
    assert "a second payment of two, sent again without a clear answer" in result.out
    found = verdict(await shell.omni("reconcile", "clips", "--json"))
    assert (found["more_tasks"], found["resent"], found["agrees"]) == (1, ["two"], False)
    assert found["more_cost"] == pytest.approx(twice)
    assert sum(paid) == pytest.approx(sandbox.record.paid)


@pytest.mark.parametrize("sandbox", [SILENT], indirect=True)
async def test_a_resend_that_was_billed_once_agrees(shell: Shell, sandbox: SandboxThread) -> None:
    """A submit that was lost on its way was sent again: the job is named, and was billed once."""
    sandbox.script("submit", ["drop_before"])
    assert (await shell.omni("generate", "a", "--on-ambiguous", "retry")).status == 0
    result = await shell.omni("reconcile")
    assert result.status == 0
    assert re.search(r"agree\n  sent again without a clear answer, and billed once: .+\n", result.out)


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [SILENT], indirect=True)
@pytest.mark.parametrize(("fault", "is_safe"), [("drop_before", True), ("drop_after", False)])
async def test_it_says_when_an_unknown_job_may_be_submitted_again(
    shell: Shell, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch, fault: str, is_safe: bool
) -> None:
    """Whether the lost submit was billed decides: if not, the safe command is printed, and it pays for one clip."""
    sandbox.script("submit", [None, fault])
    file = shell.write("p.jsonl", "".join(json.dumps({"id": key, "prompt": key}) + "\n" for key in ("one", "two")))
    assert (await shell.omni("batch", file, "--on-ambiguous", "hold", "--max-in-flight", "1")).status == 1
    early = await shell.omni("reconcile")
    if is_safe:
        assert early.status == 0
        assert re.search(
            r"not billed so far: 1 unknown job \(two\).* ask again after \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", early.out
        )
    monkeypatch.setattr(reconciliation, "INCOMPLETE", -10.0)  # seconds; as if they had passed
    await asyncio.sleep(1.1)  # the same question in the same second is answered from the server's cache
    result = await shell.omni("reconcile")
    assert ("It is safe to submit them again" in result.out) is is_safe
    if not is_safe:
        assert result.status == 1
        assert "What may explain it: the unknown two" in result.out
        assert "With --retry-unknown they may be paid twice" in result.out
        return
    command = re.findall(r"python -m omni_async (resume clips --retry-unknown)$", result.out, re.MULTILINE)
    assert (await shell.omni(*command[0].split())).status == 0
    await asyncio.sleep(1.1)
    assert (await shell.omni("reconcile")).status == 0
    assert sandbox.record.accepted == 2


async def test_a_bill_without_any_task_of_the_ledger_says_what_is_missing(
    shell: Shell, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only an unknown job was ever sent, nothing shows whose bill it is: the condition is said with the verdict."""
    monkeypatch.setattr(reconciliation, "INCOMPLETE", -10_000.0)  # seconds; as if they had passed
    sandbox.script("submit", ["drop_before"])
    assert (await shell.omni("generate", "a", "--on-ambiguous", "hold")).status == 1
    result = await shell.omni("reconcile")
    assert result.status == 0
    assert "If it is, --retry-unknown is safe" in result.out
    assert "It is safe to submit them again" not in result.out


async def test_several_folders_share_a_bill(shell: Shell) -> None:
    """The tasks of another folder are not in the ledger, until both folders are named."""
    for folder in ("a", "b"):
        assert (await shell.omni("generate", folder, "-o", folder)).status == 0
    alone = await shell.omni("reconcile", "a")
    assert alone.status == 1
    assert "another program or folder uses this key" in alone.out
    assert (await shell.omni("reconcile", "a", "b")).status == 0


@pytest.mark.parametrize("sandbox", [{"usage_unavailable": True}], indirect=True)
async def test_a_bill_that_cannot_be_had_is_no_zero(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 ends with status 3 and the server's words; nothing is said about payments."""
    monkeypatch.setattr("omni_async.cli.commands.reconcile._RETRY", reconciliation_retry())
    assert (await shell.omni("generate", "a")).status == 0
    result = await shell.omni("reconcile")
    assert (result.status, result.out) == (3, "")
    assert "usage is temporarily unavailable" in result.err


def reconciliation_retry() -> object:
    """Return retries that give up soon."""
    from omni_async import Retry

    return Retry(timeout=0.1, wait_initial=0.01)


@pytest.mark.parametrize("sandbox", [{"api_key": None}], indirect=True)
async def test_the_bill_of_another_key_is_noticed(shell: Shell) -> None:
    """With another key the bill is empty, which is said; the bill of the account agrees."""
    assert (await shell.omni("generate", "a")).status == 0
    other = await shell.omni("reconcile", APIMART_API_KEY="sk-other")
    assert other.status == 1
    assert "in the ledger and not billed: 1 task" in other.out
    assert "is this the key that submitted the jobs?" in other.out
    assert (await shell.omni("reconcile", "--account", APIMART_API_KEY="sk-other")).status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("reconcile none", "no ledger found"),
        ("reconcile clips --sandbox", "keeps no bill"),
        ("reconcile clips", "sandbox clips, which are not billed"),
        ("reconcile --time-zone Mars/Olympus", "no such time zone"),
    ],
)
async def test_what_cannot_be_compared(bare_shell: Shell, arguments: str, message: str) -> None:
    """A folder without a ledger, sandbox clips and a zone that is none end with status 2; nothing is sent."""
    (bare_shell.folder / "clips").mkdir()
    (bare_shell.folder / "clips" / "sandbox.db").write_bytes(b"")
    result = await bare_shell.omni(*arguments.split())
    assert (result.status, result.out) == (2, "")
    assert message in result.err
