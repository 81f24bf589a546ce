"""`batch --dry-run`: what would be submitted, and what it would cost, is what is then submitted and paid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import CommandResult, Shell

EXT = "Omni-Flash-Ext"


def lines(*records: dict[str, Any]) -> str:
    """Return records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


def plan(result: CommandResult) -> dict[str, Any]:
    """Return what a dry run has printed with --json."""
    assert (result.status, result.err) == (0, "")
    (record,) = result.records
    found: dict[str, Any] = record["dry_run"]
    return found


async def test_it_needs_no_key_and_sends_nothing(bare_shell: Shell) -> None:
    """What was understood of the file is said, then what would be submitted; no folder is made."""
    file = bare_shell.write("p.csv", "Prompt;id\nan apple;1\na pear;2\n")
    result = await bare_shell.omni("batch", file, "--dry-run", "--max-cost", "1")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        "p.csv: semicolon-separated, UTF-8, 2 requests, columns prompt, id, 'Prompt' read as prompt",
        "folder    clips; nothing is sent (--dry-run)",
        "to submit 2 jobs (2 x gemini-omni-flash-preview)",
        "video     6 to 20 s",
        "cost      $0.53 to $1.76, most likely $1.14 (by prices of 2026-09, APIMart's public price list)",
        "limit     --max-cost $1.00, $0.00 of it spent: may stop the run before its end",
        "time      unknown until limits and durations have been seen in this folder",
    ]
    assert not (bare_shell.folder / "clips").exists()


@pytest.mark.parametrize(("limit", "verdict"), [("0.2", "will stop"), ("0.5", "may stop"), ("1", "enough")])
async def test_a_cost_limit_is_compared(bare_shell: Shell, limit: str, verdict: str) -> None:
    """Whether it stops the run for certain, perhaps, or not."""
    result = await bare_shell.omni("batch", bare_shell.write("p.txt", "a\n"), "--dry-run", "--max-cost", limit)
    assert f"spent: {verdict}" in result.out


async def test_an_unknown_price_is_said(bare_shell: Shell) -> None:
    """It is never zero, neither alone nor beside others."""
    file = bare_shell.write("p.jsonl", lines({"prompt": "a", "model": "new"}))
    result = await bare_shell.omni("batch", file, "--dry-run")
    assert "cost      unknown: no price is known of new" in result.out
    both = bare_shell.write("q.jsonl", lines({"prompt": "a", "model": "new"}, {"prompt": "b", "model": EXT}))
    result = await bare_shell.omni("batch", both, "--dry-run")
    assert "cost      $0.30, and 1 job of unknown price (by prices of" in result.out


async def test_a_wrong_file_is_reported_as_ever(bare_shell: Shell) -> None:
    """Every problem, and status 2."""
    file = bare_shell.write("p.jsonl", '{"promt": "a"}\n')
    result = await bare_shell.omni("batch", file, "--dry-run")
    assert (result.status, result.out) == (2, "")
    assert result.err == "p.jsonl:1: unknown field 'promt'; did you mean 'prompt'?\n"


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"seconds": None}], indirect=True)
@pytest.mark.parametrize("pilot", [0, 12])
async def test_the_estimate_is_what_is_then_paid(shell: Shell, sandbox: SandboxThread, pilot: int) -> None:
    """For clips of 3 to 10 s and others, with and without prices seen before, it is within 15 % of the bill."""
    records: list[dict[str, Any]] = [{"prompt": f"prompt {number}"} for number in range(60)]
    records += [{"prompt": f"ext {number}", "model": EXT, "duration": 4 + 2 * (number % 4)} for number in range(20)]
    file, first = shell.write("p.jsonl", lines(*records)), shell.write("first.jsonl", lines(*records[:pilot]))
    if pilot:
        assert (await shell.omni("batch", first)).status == 0
    found = plan(await shell.omni("batch", file, "--dry-run", "--json"))
    assert (found["total"], found["already_complete"], found["to_submit"]) == (80, pilot, 80 - pilot)
    assert found["models"] == {"gemini-omni-flash-preview": 60 - pilot, EXT: 20}
    assert sandbox.record.accepted == pilot
    result = await shell.omni("batch", file, "--json")
    paid = result.records[-1]["summary"]["cost"]
    assert found["cost"]["low"] <= paid <= found["cost"]["high"]
    assert found["cost"]["expected"] == pytest.approx(paid, rel=0.15)
    assert found["unpriced"] == 0
    assert (found["seconds"] is None) == (pilot == 0)
    again = plan(await shell.omni("batch", file, "--dry-run", "--json"))
    assert (again["already_complete"], again["to_submit"], again["cost"]) == (80, 0, None)
    assert again["spent"] == pytest.approx(sum(task.price for task in sandbox.record.tasks.values()))


@pytest.mark.parametrize("sandbox", [{"credits": 20.0}], indirect=True)
@pytest.mark.parametrize(("count", "verdict", "covers"), [(5, "enough", True), (20, "not enough", False)])
async def test_with_a_key_the_balance_is_compared(
    shell: Shell, sandbox: SandboxThread, count: int, verdict: str, covers: bool
) -> None:
    """It is the lower one of the key and of the account; credits are ten to a dollar."""
    file = shell.write("p.jsonl", lines(*({"prompt": f"{number}", "model": EXT} for number in range(count))))
    result = await shell.omni("batch", file, "--dry-run")
    assert f"balance   $2.00 left: {verdict}" in result.out
    found = plan(await shell.omni("batch", file, "--dry-run", "--json"))
    assert (found["balance"], found["balance_covers"]) == (2.0, covers)
    assert sandbox.record.submits == 0
    assert not (shell.folder / "clips").exists()


async def test_a_server_that_does_not_answer_spoils_nothing(shell: Shell) -> None:
    """The plan is printed, and the balance is unknown with the reason."""
    file = shell.write("p.txt", "a\n")
    result = await shell.omni("batch", file, "--dry-run", APIMART_API_KEY="wrong")
    assert result.status == 0
    assert "cost      $0.26 to $0.88" in result.out
    assert "balance   unknown: " in result.out


@pytest.mark.parametrize("sandbox", [{"fail_rate": 1.0}], indirect=True)
async def test_what_failed_is_counted_and_submitted_on_request_only(shell: Shell) -> None:
    """The dry run counts as the run does, with the same options."""
    file = shell.write("p.txt", "a\nb\n")
    await shell.omni("batch", file)
    found = plan(await shell.omni("batch", file, "--dry-run", "--json"))
    assert (found["failed"], found["to_submit"]) == (2, 0)
    result = await shell.omni("batch", file, "--dry-run")
    assert "2 failed before; --retry-failed submits them" in result.out
    assert "to submit nothing" in result.out
    found = plan(await shell.omni("batch", file, "--dry-run", "--retry-failed", "--json"))
    assert (found["failed"], found["to_submit"]) == (0, 2)


async def test_the_fields_of_a_dry_run_are_a_contract(shell: Shell) -> None:
    """Each is documented."""
    from tests.cli.test_batch import README

    found = plan(await shell.omni("batch", shell.write("p.txt", "a\n"), "--dry-run", "--json"))
    assert [name for name in found if f"`{name}`" not in README] == []
