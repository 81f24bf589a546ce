"""A folder with the ledger of somebody else: every command ends with plain words, and pays for nothing unasked."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from omni_async import LEDGER_NAME, JobStatus
from tests.ledger.test_schema_check import ADDITIONS
from tests.support.fakes import mp4
from tests.support.http_servers import web_server
from tests.support.ledgers import opened, record_of
from tests.support.markers import slow_after
from tests.support.shell import Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLIP = mp4("a clip", 1000)

# What each text of a row may be that no run has written. In SQL, where a parameter is put.
ODD_TEXTS = {
    "empty": "",
    "control": "a\x00\x1b[2J\r\nb\x9b",
    "bidi": "\u202egpj.exe\u2066",
    "space": "  ",
    "path": "../../outside",
    "absolute": "/etc/passwd",
    "windows": "C:\\con\\..\\nul:stream",
    "url": "http://127.0.0.1:9/collect?x=1#y",
    "long": "x" * 100_000,
    "json": '{"prompt": "p", "prompt": ["q"]}',
    "list": "[[[]]]",
    "deep": "[" * 100_000,
    "number": "1" * 5000,
    "other script": "ｔａｓｋ＿１",
}
TEXT_COLUMNS = ("key", "idempotency_key", "parent", "parent_task_id", "task_id", "error", "webhook")
LIST_COLUMNS = ("paths", "previous_task_ids", "sent_references")
# Requests that are no request, or one that today's rules refuse.
ODD_REQUESTS = {
    **ODD_TEXTS,
    "null": "null",
    "no prompt": "{}",
    "null prompt": '{"prompt": null}',
    "unknown field": '{"prompt": "p", "more": 1}',
    "wrong type": '{"prompt": {"a": 1}}',
    "nan": '{"prompt": "p", "seed": NaN}',
    "huge": '{"prompt": "p", "seed": 1e999}',
    "deep extra": '{"prompt": "p", "extra": ' + '{"a": ' * 5000 + "1" + "}" * 5001,
    "device": '{"prompt": "p", "images": ["/dev/zero"]}',
    "model": '{"prompt": "p", "model": "\\u001b[2J"}',
    "surrogate": '{"prompt": "\\ud800"}',
    "null character": '{"prompt": "p", "images": ["a\\u0000b"]}',
}


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


class Server:
    """An API on which every task is finished. It records what it was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        self.paths.append(request.raw_path if hasattr(request, "raw_path") else request.path_qs)
        if request.path == "/clip":
            return web.Response(body=CLIP, content_type="video/mp4")
        if request.path.endswith("/generations"):
            self.bodies.append(json.loads(await request.read()))
            return web.json_response({"code": 200, "data": [{"task_id": f"task_{len(self.bodies)}"}]})
        if request.path.startswith("/v1/tasks/"):
            result = {"videos": [{"url": [f"{self.url}/clip"]}]}
            return web.json_response({"code": 200, "data": {"status": "completed", "result": result}})
        return web.json_response({"error": {"message": "page not found", "type": "x"}}, status=404)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Serve an API."""
    server = Server()
    async with web_server(server.answer) as server.url:
        yield server


@pytest.fixture
def shell(server: Server, tmp_path: Path) -> Shell:
    """Return a working directory and an environment in which the command line uses the API."""
    return Shell(tmp_path, {"APIMART_API_KEY": "sk-good", "APIMART_BASE_URL": server.url})


async def record(shell: Shell) -> Path:
    """Record a job of every status as a run in this folder leaves them, and one that is alright."""
    path = shell.folder / "clips" / LEDGER_NAME
    async with opened(path) as ledger:
        for status in JobStatus:
            has_task = status not in {JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.UNKNOWN}
            facts: dict[str, Any] = {"task_id": f"task_{status}", "paths": (f"{status}.mp4",)} if has_task else {}
            await ledger.insert(record_of(str(status), status=status, submits=1, **facts))
        await ledger.insert(record_of("good"))
        await ledger.set_fact("output_dir", json.dumps(str(path.parent)))
    return path


def change(path: Path, statement: str, *values: object) -> None:
    """Change the file as another program can."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement, values)
        db.commit()


def query(path: Path, statement: str) -> tuple[Any, ...]:
    """Return a row of the file."""
    with closing(sqlite3.connect(path)) as db:
        row: tuple[Any, ...] = db.execute(statement).fetchone()
        return row


COMMANDS = (
    ("status", "--all"),
    ("gallery",),
    ("resume", "--retry-failed", "--retry-unknown", "-v"),
    ("batch", "prompts.txt", "--json"),
)


async def run_all(shell: Shell, caplog: pytest.LogCaptureFixture) -> None:
    """Run each command: it ends with a documented status, and neither prints nor logs a traceback."""
    shell.write("prompts.txt", "p\n")
    for command in COMMANDS:
        async with asyncio.timeout(20):
            result = await shell.omni(*command)
        assert result.status in {0, 1, 2, 3}, (command, result)
        assert not re.search("unexpected .* while it was being", result.err), (command, result)
    # Shell.omni has seen that no traceback is printed; with -v, logs are printed too.
    assert [each for each in caplog.records if each.exc_info and each.name.startswith("omni_async")] == []


# A task id that no server answers is asked for until the time for it has passed, which is minutes; and aiohttp's server
# logs headers that are too long for it.
CASES = [
    (column, name)
    for column in TEXT_COLUMNS
    for name in ODD_TEXTS
    if column not in {"task_id", "idempotency_key"} or len(ODD_TEXTS[name]) < 200
]
ODD_LISTS = {
    "odd names": json.dumps(list(ODD_TEXTS.values())),
    "numbers": "[1, 2]",
    "deep": ODD_TEXTS["deep"],
    "long number": f"[{ODD_TEXTS['number']}]",
}
CASES += [(column, name) for column in LIST_COLUMNS for name in ODD_LISTS]


@pytest.mark.parametrize(("column", "name"), slow_after(8, CASES))
async def test_rows_with_odd_texts(shell: Shell, caplog: pytest.LogCaptureFixture, column: str, name: str) -> None:
    """In every column, and with every status."""
    path = await record(shell)
    value = ODD_LISTS[name] if column in LIST_COLUMNS else ODD_TEXTS[name]
    if column == "key":  # all different, as SQLite demands
        value_of = "? || CASE status WHEN 'cancelled' THEN '' ELSE status END"
        change(path, f"UPDATE jobs SET key = {value_of} WHERE key <> 'good'", value)
    else:
        change(path, f"UPDATE jobs SET {column} = ? WHERE key <> 'good'", value)
    await run_all(shell, caplog)


@pytest.mark.parametrize("name", slow_after(5, ODD_REQUESTS))
async def test_rows_with_odd_requests(shell: Shell, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Such a job fails by itself, with its reason; the one beside it is completed."""
    path = await record(shell)
    (good,) = query(path, "SELECT id FROM jobs WHERE key = 'good'")
    change(path, "UPDATE requests SET request = ? WHERE job <> ?", ODD_REQUESTS[name], good)
    await run_all(shell, caplog)
    assert (path.parent / "good.mp4").is_file()


ODD_FACTS = {
    "number": "5",
    "null": "null",
    "list": "[1]",
    "object": "{}",
    "deep": "[" * 100_000,
    "long": '"' + "x" * 100_000 + '"',
    "path": '"/nowhere/\\u0000"',
    "limits": '{"server": "URL", "per_second": 1e-12, "max_in_flight": 0, "burst": -5}',
    "texts": '{"server": "URL", "per_second": "fast", "max_in_flight": [], "burst": null, "models": 5}',
    "infinite": '{"server": "URL", "per_second": NaN, "max_in_flight": 1e999}',
    "models": '{"server": "URL", "models": {"gemini-omni-flash-preview": {"retention": "x", "declared": "y"}}}',
}


@pytest.mark.parametrize("name", slow_after(3, ODD_FACTS))
async def test_odd_facts(shell: Shell, server: Server, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """What a ledger says of the account and of the server is used only if it can be true."""
    path = await record(shell)
    for fact in ("limits", "idempotency", "output_dirs", "webhook"):
        change(path, "INSERT OR REPLACE INTO facts VALUES (?, ?)", fact, ODD_FACTS[name].replace("URL", server.url))
    await run_all(shell, caplog)
    assert (path.parent / "good.mp4").is_file()


@pytest.mark.parametrize("addition", slow_after(3, ADDITIONS))
async def test_a_ledger_that_is_also_a_program_is_refused(shell: Shell, server: Server, addition: str) -> None:
    """Every command says so in one line, nothing is sent, and the file stays as it is."""
    path = await record(shell)
    (index,) = query(path, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(ADDITIONS[addition].format(index=index))
    before = path.read_bytes()
    shell.write("prompts.txt", "p\n")
    for command in COMMANDS:
        result = await shell.omni(*command)
        assert (result.status, len(result.err.splitlines())) == (2, 1), (command, result)
        assert "is not a ledger that omni_async has made" in result.err
    assert path.read_bytes() == before
    assert server.paths == []
