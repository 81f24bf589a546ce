"""`balance` and `check`: what the account has left, and whether address, key, credit and model are usable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell


@pytest.mark.parametrize("sandbox", [{"credits": 12.5}], indirect=True)
async def test_check_finds_a_usable_account(shell: Shell, sandbox: SandboxThread) -> None:
    """Check prints one line each for address, key, credit, account and model, and spends nothing; balance agrees."""
    result = await shell.omni("check")
    assert (result.status, result.err) == (0, "")
    assert [line.split()[:2] for line in result.out.splitlines()] == [
        ["address", "ok"],
        ["key", "ok"],
        ["credit", "ok"],
        ["account", "ok"],
        ["model", "ok"],
    ]
    assert result.out.splitlines()[-1].endswith("a resent submit is billed once (Idempotency-Key)")
    balance = await shell.omni("balance", "--json")
    assert balance.records[0]["balance"]["remaining_credits"] == 12.5
    assert balance.records[0]["account"]["remaining_credits"] == 12.5
    assert "12.5 credits left" in (await shell.omni("balance")).out
    assert sandbox.record.accepted == 0


async def test_check_names_each_problem_with_its_remedy(shell: Shell, sandbox: SandboxThread) -> None:
    """A refused key, a wrong address and an unknown model each end with status 3 and say what to do."""
    key = await shell.omni("check", "--json", APIMART_API_KEY="sk-wrong")
    assert key.status == 3
    assert [(found["check"], found["ok"]) for found in key.records] == [("address", True), ("key", False)]
    assert "apimart.ai/keys" in key.records[-1]["advice"]

    address = await shell.omni("check", "--base-url", f"{sandbox.base_url}/elsewhere")
    assert address.status == 3
    assert "is this the address of the API?" in address.out

    model = await shell.omni("check", "--model", "gemini-omni-flush")
    assert model.status == 3
    assert "it lists gemini-omni-flash-preview" in model.out


@pytest.mark.parametrize("sandbox", [{"credits": 0.0}], indirect=True)
async def test_check_reports_an_empty_account(shell: Shell) -> None:
    """Without credit, check ends with status 3 and says to top up."""
    result = await shell.omni("check", "--json")
    assert result.status == 3
    assert [(found["check"], found["ok"]) for found in result.records] == [
        ("address", True),
        ("key", True),
        ("credit", False),
        ("account", False),
        ("model", False),
    ]
    assert "HTTP 402" in result.records[-1]["found"]
    assert all("top up" in found["advice"] for found in result.records[2:])


@pytest.mark.parametrize("sandbox", [{"credits": 100.0, "key_credits": 0.25}], indirect=True)
async def test_balance_shows_key_and_account_separately(shell: Shell) -> None:
    """A key may have less than its account; both are shown in the server's unit, with the server's digits."""
    result = await shell.omni("balance")
    assert result.out.splitlines() == [
        "this key: 0.025 left, 0.25 credits left, 0 used",
        "account:  10 left, 100 credits left, 0 used",
    ]
    (record,) = (await shell.omni("balance", "--json")).records
    assert (record["balance"]["remaining_credits"], record["account"]["remaining_credits"]) == (0.25, 100)
    refused = await shell.omni("generate", "an apple")
    assert (refused.status, "402" in refused.err) == (3, True)


async def test_check_understands_a_402_to_the_first_request(bare_shell: Shell) -> None:
    """If a server answers every request with 402, check says that the key is known and the credit is missing."""
    answer = {"error": {"code": 402, "message": "insufficient balance", "type": "payment_required"}}

    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.json_response(answer, status=402)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    result = await bare_shell.omni("check", "--json", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    await runner.cleanup()
    assert result.status == 3
    assert [(found["check"], found["ok"]) for found in result.records] == [
        ("address", True),
        ("key", True),
        ("credit", False),
    ]
    assert "insufficient balance" in result.records[-1]["found"]
