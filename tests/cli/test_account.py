"""`balance` and `check`: what the account has left, and whether address, key, credit and model are usable."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from yarl import URL

from omni_async.api.idempotency import declared_support
from omni_async.testing import SandboxThread
from tests.support.markers import slow_after
from tests.support.ports import free_port
from tests.support.proxies import certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.shell import Shell


@asynccontextmanager
async def answering(replies: dict[str, tuple[int, Any]]) -> AsyncIterator[str]:
    """Serve these replies (status, JSON) by path, and a 404 for any other path."""

    async def reply(request: web.BaseRequest) -> web.Response:
        status, body = replies.get(request.path, (404, {"error": {"code": 404, "message": "not found"}}))
        return web.json_response(body, status=status)

    runner = web.ServerRunner(web.Server(reply))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("sandbox", [{"credits": 12.5}], indirect=True)
async def test_check_finds_a_usable_account(shell: Shell, sandbox: SandboxThread) -> None:
    """Check prints a line each for address, key, credit, account, model and resends, and spends nothing."""
    result = await shell.omni("check")
    assert (result.status, result.err) == (0, "")
    assert [line.split()[:2] for line in result.out.splitlines()] == [
        ["address", "ok"],
        ["key", "ok"],
        ["credit", "ok"],
        ["account", "ok"],
        ["model", "ok"],
        ["resends", "ok"],
    ]
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
    async with answering({"/v1/balance": (402, answer)}) as url:
        result = await bare_shell.omni("check", "--json", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    assert result.status == 3
    assert [(found["check"], found["ok"]) for found in result.records] == [
        ("address", True),
        ("key", True),
        ("credit", False),
    ]
    assert "insufficient balance" in result.records[-1]["found"]


DECLARED = "the server declares Idempotency-Key for 24 h: an unclear submit is sent again, and billed once"
UNDECLARED = "the server does not declare Idempotency-Key: an unclear submit is not sent again, its job becomes unknown"


@pytest.mark.parametrize(
    ("sandbox", "text"),
    [
        ({}, DECLARED),
        ({"idempotency": False}, UNDECLARED),
        ({"declare_idempotency": False}, UNDECLARED),
        ({"idempotency": False, "declare_idempotency": True}, DECLARED),
    ],
    indirect=["sandbox"],
    ids=str,
)
async def test_check_says_whether_unclear_submits_are_resent(shell: Shell, text: str) -> None:
    """The last line follows what the server declares for the model, with the period, and is no error either way."""
    result = await shell.omni("check")
    assert result.status == 0
    assert text in result.out.splitlines()[-1]


@pytest.mark.parametrize("model", ["gemini-omni-flash-preview", "gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"])
async def test_check_knows_every_name_of_a_model(shell: Shell, model: str) -> None:
    """The line of the model has its resolutions under each of its names."""
    result = await shell.omni("check", "--json", "--model", model)
    assert (result.status, result.err) == (0, "")
    found = next(record["found"] for record in result.records if record["check"] == "model")
    assert found.startswith(f"{model}: ")
    assert "720p" in found


@pytest.mark.parametrize("sandbox", [{"retired_model": "gemini-omni-flash-preview"}], indirect=True)
async def test_check_names_a_model_that_is_not_served_and_the_remedy(shell: Shell, sandbox: SandboxThread) -> None:
    """For a retired model the line fails, names it, and lists what is served instead; nothing is submitted."""
    result = await shell.omni("check")
    assert result.status == 3
    finding, advice = result.out.splitlines()[-2:]
    assert "gemini-omni-flash-preview: the server does not serve this model" in finding
    assert "gemini-omni-1.1-flash, gemini-omni-1.1-flash-ext, Omni-Flash-Ext; choose a model with --model" in advice
    assert sandbox.submits == 0


def _gateway(status: int) -> dict[str, tuple[int, Any]]:
    """Return what a gateway answers that does not serve a model: it says so in the schema, with this status."""
    error = {"code": "model_not_found", "message": "No available channel for model x", "type": "new_api_error"}
    return {
        "/v1/balance": (200, {"remain_balance": 5, "used_balance": 0}),
        "/v1/model-schema": (status, {"error": error}),
    }


@pytest.mark.parametrize("status", [200, 400, 404, pytest.param(503, marks=pytest.mark.slow)])
async def test_check_believes_a_gateway_that_lists_no_models(bare_shell: Shell, status: int) -> None:
    """Without a list of models, a schema that is refused as model_not_found shows that the model is not served."""
    async with answering(_gateway(status)) as url:
        result = await bare_shell.omni("check", "--json", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    assert (result.status, result.records[-1]["check"], result.records[-1]["ok"]) == (3, "model", False)
    assert "--model" in result.records[-1]["advice"]


@pytest.mark.parametrize(
    ("declaration", "is_declared"),
    [
        ({"header": "Idempotency-Key", "retention_seconds": 3600}, True),
        ({"header": "idempotency-key"}, True),
        ({"header": "Idempotency-Key", "retention_seconds": None}, True),
        ({"supported": True}, False),
        ({"header": "X-Request-Id"}, False),
        ({"header": None}, False),
        ({}, False),
        (True, False),
        ("Idempotency-Key", False),
        (None, False),
    ],
    ids=str,
)
async def test_check_reads_the_declaration_as_the_client_does(
    bare_shell: Shell, declaration: object, is_declared: bool
) -> None:
    """Only an object with the header Idempotency-Key declares it, in whatever form the rest of it is."""
    schema = {"model": "x", "operation": "video_generation", "input_schema": {}, "idempotency": declaration}
    replies = {"/v1/balance": (200, {"unlimited_quota": True}), "/v1/model-schema": (200, schema)}
    async with answering(replies) as url:
        result = await bare_shell.omni("check", "--json", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    assert (result.status, result.records[-1]["check"]) == (0, "resends")
    assert ("the server declares" in result.records[-1]["found"]) is is_declared is declared_support(schema).declared


def _unresolved(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _local(host: str, port: int, *_: Any, **__: Any) -> Any:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.mark.parametrize("cause", slow_after(1, ["no name", "no connection", "no trusted certificate"]))
async def test_check_names_the_alternative_host(
    bare_shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """If the main host cannot be reached, check names the vendor's other host, and sends it nothing by itself."""
    certificate_file, key = certificate(tmp_path)
    with SandboxThread(cert=certificate_file, key=key) as tls:
        port = URL(tls.base_url).port if cause == "no trusted certificate" else free_port()
        monkeypatch.setattr(socket, "getaddrinfo", _unresolved if cause == "no name" else _local)
        main = await bare_shell.omni("check", "--base-url", f"https://api.apimart.ai:{port}", APIMART_API_KEY="sk-good")
        other = await bare_shell.omni("check", "--base-url", f"https://api.test:{port}", APIMART_API_KEY="sk-good")
        assert tls.record.refused.total() == tls.record.submits == 0
    assert (main.status, other.status) == (3, 3)
    assert "--base-url https://api.apib.ai" in main.out
    assert "apib.ai" not in other.out
    assert "check the network" in other.out


async def test_check_names_no_alternative_for_a_host_that_responds(bare_shell: Shell) -> None:
    """An address that answers, but not as the API, gets no other host as advice."""
    async with answering({}) as url:
        result = await bare_shell.omni("check", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    assert (result.status, "apib.ai" in result.out) == (3, False)


async def test_check_prints_names_from_the_server_on_their_line(bare_shell: Shell) -> None:
    """Control characters and line breaks in the names of models reach no terminal."""
    names = ["omni\x1b[31m", "omni\nmodel    ok     all is well", "omni\r\x07"]
    replies = {
        "/v1/balance": (200, {"unlimited_quota": True}),
        "/v1/models": (200, {"data": [{"id": name} for name in names]}),
    }
    async with answering(replies) as url:
        result = await bare_shell.omni("check", APIMART_API_KEY="sk-good", APIMART_BASE_URL=url)
    assert result.status == 3
    assert not set("\x1b\r\x07") & set(result.out)
    assert len(result.out.splitlines()) == 5
