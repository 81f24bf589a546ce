"""`balance`, `check` and `sandbox`: what the account has, and whether all is well."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from tests.support.shell import PATIENCE, Shell, ended

if TYPE_CHECKING:
    from omni_async.sandbox import SandboxProcess


@pytest.mark.parametrize("sandbox", [{"credits": 12.5}], indirect=True)
async def test_all_is_well(shell: Shell, sandbox: SandboxProcess) -> None:
    """Check finds address, key, credit and model, says so in a line each, and spends nothing; balance agrees."""
    said = await shell.omni("check")
    assert (said.status, said.err) == (0, "")
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["address", "ok"],
        ["key", "ok"],
        ["credit", "ok"],
        ["account", "ok"],
        ["model", "ok"],
    ]
    assert said.out.splitlines()[-1].endswith("a submit sent twice is paid once (Idempotency-Key)")
    balance = await shell.omni("balance", "--json")
    assert balance.records[0]["balance"]["remaining_credits"] == 12.5
    assert balance.records[0]["account"]["remaining_credits"] == 12.5
    assert "12.5 credits left" in (await shell.omni("balance")).out
    assert (await sandbox.record())["accepted"] == 0


async def test_what_is_not_well_is_named_with_its_remedy(shell: Shell, sandbox: SandboxProcess) -> None:
    """A refused key, another address and an unknown model each end with status 3 and a way out."""
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
async def test_no_credit_is_named(shell: Shell) -> None:
    """Check tells that the credit is used up, with status 3."""
    said = await shell.omni("check", "--json")
    assert said.status == 3
    assert [(found["check"], found["ok"]) for found in said.records] == [
        ("address", True),
        ("key", True),
        ("credit", False),
        ("account", False),
        ("model", False),
    ]
    assert "HTTP 402" in said.records[-1]["found"]
    assert all("top up" in found["advice"] for found in said.records[2:])


@pytest.mark.parametrize("sandbox", [{"credits": 100.0, "key_credits": 0.25}], indirect=True)
async def test_key_and_account_are_told_apart(shell: Shell) -> None:
    """A key may have less than its account; each is told in the unit and with the digits that the server gave."""
    said = await shell.omni("balance")
    assert said.out.splitlines() == [
        "this key: 0.025 left, 0.25 credits left, 0 used",
        "account:  10 left, 100 credits left, 0 used",
    ]
    (told,) = (await shell.omni("balance", "--json")).records
    assert (told["balance"]["remaining_credits"], told["account"]["remaining_credits"]) == (0.25, 100)
    refused = await shell.omni("generate", "an apple")
    assert (refused.status, "402" in refused.err) == (3, True)


async def test_402_even_to_the_first_question(bare_shell: Shell) -> None:
    """Where a server answers every question with 402, check says that the key is known and the credit is not there."""
    answer = {"error": {"code": 402, "message": "insufficient balance", "type": "payment_required"}}

    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.json_response(answer, status=402)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    said = await bare_shell.omni("check", "--json", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    await runner.cleanup()
    assert said.status == 3
    assert [(found["check"], found["ok"]) for found in said.records] == [
        ("address", True),
        ("key", True),
        ("credit", False),
    ]
    assert "insufficient balance" in said.records[-1]["found"]


async def test_the_sandbox_serves_until_it_is_told_to_end(bare_shell: Shell) -> None:
    """Sandbox prints its address, a key that works, and both as lines for a shell; Ctrl-C ends it with status 0."""
    process = await bare_shell.start("sandbox", "--median", "0.1", "--credits", "7")
    assert process.stdout is not None
    words = (await process.stdout.readline()).decode().split()
    address, key = words[words.index("sandbox:") + 1], words[words.index("key:") + 1]
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    assert lines == [f"export APIMART_BASE_URL={address}", f"export APIMART_API_KEY={key}"]
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        answer = await session.get(f"{address}/v1/balance", headers={"Authorization": f"Bearer {key}"})
        assert json.loads(await answer.text())["remain_credits"] == 7
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).status == 0


async def test_a_private_sandbox_needs_no_key(bare_shell: Shell) -> None:
    """--sandbox makes a clip without key and address; --quiet leaves nothing but the path."""
    said = await bare_shell.omni("generate", "a red apple", "--sandbox", "--quiet")
    assert (said.status, said.err) == (0, "")
    assert (bare_shell.folder / said.out.strip()).read_bytes()[4:8] == b"ftyp"
