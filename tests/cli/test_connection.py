"""Chains, models, certificates and proxies as the command line reports them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.ports import free_port
from tests.support.proxies import certificate

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell


def as_jsonl(*records: object) -> str:
    """Return the records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


async def test_a_broken_chain_is_reported_and_nothing_is_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """A cycle, an unknown parent and a parent that cannot be extended: each with its line and reason, status 2."""
    file = shell.write(
        "p.jsonl",
        as_jsonl(
            {"id": "fine", "prompt": "an apple"},
            {"id": "a", "prompt": "a", "extend_from": "c"},
            {"id": "b", "prompt": "b", "extend_from": "a"},
            {"id": "c", "prompt": "c", "extend_from": "b"},
            {"id": "d", "prompt": "d", "extend_from": "nobody"},
            {"id": "e", "prompt": "e", "extend_from": "e"},
            {"id": "f", "prompt": "f", "extend_from": "ext"},
            {"id": "ext", "prompt": "g", "model": "Omni-Flash-Ext"},
        ),
    )
    result = await shell.omni("batch", file)
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines() == [
        "p.jsonl:2: lines 2, 3 and 4 extend each other in a cycle; remove extend_from from one of them",
        "p.jsonl:5: extend_from names 'nobody', but no line has this id",
        "p.jsonl:6: extend_from names the line itself; name an earlier clip or leave it out",
        "p.jsonl:7: this model cannot extend another task; use one that can "
        "(gemini-omni-flash-preview or gemini-omni-1.1-flash) (model Omni-Flash-Ext)",
    ]
    assert sandbox.record.submits == 0


async def test_each_line_is_sent_for_its_model(shell: Shell, sandbox: SandboxThread) -> None:
    """Each line is sent with the fields of its model; an unknown model is tried as well, after a single warning."""
    file = shell.write(
        "p.csv",
        "id,prompt,model,duration,resolution\n"
        "1,an apple,Omni-Flash-Ext,8,1080p\n"
        "2,a pear,gemini-omni-1.1-flash,,360p\n"
        "3,a plum,gemini-omni-9,15,\n"
        "4,a fig,gemini-omni-9,15,\n",
    )
    result = await shell.omni("batch", file, "--json")
    *jobs, _ = result.records
    assert result.status == 3
    statuses = {job["key"]: job["status"] for job in jobs}
    assert statuses == {"1": "completed", "2": "completed", "3": "waiting", "4": "waiting"}
    assert "the server does not serve the model 'gemini-omni-9'" in result.err
    assert "2 not sent" in result.err
    bodies = {task.prompt: task.body for task in sandbox.record.tasks.values()}
    assert bodies["an apple"]["duration"] == 8
    assert bodies["a pear"]["resolution"] == "360p"
    warnings = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "gemini-omni-9" in warnings[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "Omni-Flash-Ext", "--duration", "5"], "duration must be 4, 6, 8 or 10, not 5"),
        (["--model", "gemini-omni-1.1-flash", "--resolution", "8k"], "resolution must be '360p', '720p', '1080p' or"),
        (["--duration", "5"], "duration cannot be set"),
        (["--base-url", "http://api.example"], "is plain http"),
        (["--ca-file", "none.pem"], "--ca-file none.pem: cannot be read: No such file or directory"),
        (["--ca-file", "note.txt"], "--ca-file note.txt: contains no certificate in PEM format"),
    ],
)
async def test_invalid_options_are_reported_before_anything_is_sent(
    shell: Shell, sandbox: SandboxThread, arguments: list[str], message: str
) -> None:
    """The status is 2, and one sentence says what is wrong."""
    shell.write("note.txt", "no certificate")
    result = await shell.omni("generate", "an apple", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert sandbox.record.submits == 0


@pytest.mark.slow
async def test_a_private_certificate_is_trusted_by_option_or_environment(bare_shell: Shell, tmp_path: Path) -> None:
    """`sandbox --cert --key` serves https; --ca-file or SSL_CERT_FILE trusts it, otherwise the error names --ca-file.

    The variable is read when the interpreter starts, hence a process.
    """
    cert, key = certificate(tmp_path)
    process = await bare_shell.start("sandbox", "--median", "0.1", "--prerendered", "--cert", cert, "--key", key)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().split()[1]
    exports = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
    assert address.startswith("https://127.0.0.1:")
    assert exports[2] == f"export SSL_CERT_FILE={cert}"
    server = {"APIMART_BASE_URL": address, "APIMART_API_KEY": "sk-sandbox"}
    untrusted, by_option, by_environment = await asyncio.gather(
        bare_shell.omni("check", **server),
        bare_shell.omni("generate", "an apple", "-q", "--ca-file", cert, "-o", "one", **server),
        bare_shell.omni_process("generate", "a pear", "-q", "-o", "two", **server, SSL_CERT_FILE=cert),
    )
    process.kill()
    await process.wait()
    assert (untrusted.status, "certificate verify failed" in untrusted.out) == (3, True)
    assert "--ca-file" in untrusted.out
    for result in (by_option, by_environment):
        assert (result.status, result.err) == (0, "")
        assert (bare_shell.folder / result.out.strip()).read_bytes()[4:8] == b"ftyp"


@pytest.mark.slow
async def test_a_private_sandbox_uses_no_proxy(bare_shell: Shell) -> None:
    """The proxy settings of the environment do not apply to a private sandbox."""
    proxy = f"http://127.0.0.1:{free_port()}"
    result = await bare_shell.omni("check", "--sandbox", HTTP_PROXY=proxy, http_proxy=proxy)
    assert result.status == 0


@pytest.mark.slow
async def test_a_private_sandbox_needs_no_key(bare_shell: Shell) -> None:
    """--sandbox makes a clip without key and address; with --quiet the path is the only output."""
    result = await bare_shell.omni("generate", "a red apple", "--sandbox", "--quiet")
    assert (result.status, result.err) == (0, "")
    assert (bare_shell.folder / result.out.strip()).read_bytes()[4:8] == b"ftyp"
