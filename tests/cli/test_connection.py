"""Chains, models and ways to the server, as the command line tells of them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.proxies import certificate, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell


def as_jsonl(*records: object) -> str:
    """Spell records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


async def test_a_broken_chain_is_told_and_nothing_is_sent(shell: Shell, sandbox: SandboxProcess) -> None:
    """A circle, an unknown parent and a parent that cannot be extended: each with its line and reason, status 2."""
    before = (await sandbox.record())["submits"]
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
    said = await shell.omni("batch", file)
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines() == [
        "p.jsonl:2: lines 2, 3 and 4 extend each other in a cycle; remove extend_from from one of them",
        "p.jsonl:5: extend_from names 'nobody', but no line has this id",
        "p.jsonl:6: extend_from names the line itself; name an earlier clip or leave it out",
        "p.jsonl:7: this model cannot extend another task; use one that can "
        "(gemini-omni-flash-preview or gemini-omni-1.1-flash) (model Omni-Flash-Ext)",
    ]
    assert (await sandbox.record())["submits"] == before


async def test_other_models_from_a_file(shell: Shell, sandbox: SandboxProcess) -> None:
    """Each line is sent as its model takes it; an unknown id is sent as well, after one warning for all its lines."""
    file = shell.write(
        "p.csv",
        "id,prompt,model,duration,resolution\n"
        "1,an apple,Omni-Flash-Ext,8,1080p\n"
        "2,a pear,gemini-omni-1.1-flash,,360p\n"
        "3,a plum,gemini-omni-9,15,\n"
        "4,a fig,gemini-omni-9,15,\n",
    )
    said = await shell.omni("batch", file, "--json")
    *jobs, _ = said.records
    assert said.status == 1
    assert {job["key"]: job["status"] for job in jobs} == {
        "1": "completed",
        "2": "completed",
        "3": "failed",
        "4": "failed",
    }
    bodies = {task["prompt"]: task["body"] for task in (await sandbox.record())["tasks"].values()}
    assert bodies["an apple"]["duration"] == 8
    assert bodies["a pear"]["resolution"] == "360p"
    warnings = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "gemini-omni-9" in warnings[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "Omni-Flash-Ext", "--duration", "5"], "duration must be 4, 6, 8 or 10, not 5"),
        (["--model", "gemini-omni-1.1-flash", "--resolution", "8k"], "resolution must be '360p', '720p', '1080p' or"),
        (["--duration", "5"], "duration cannot be set"),
        (["--base-url", "http://api.example"], "is plain http"),
        (["--ca-file", "none.pem"], "--ca-file none.pem: cannot be read: No such file or directory"),
        (["--ca-file", "note.txt"], "--ca-file note.txt: holds no certificate in PEM format"),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_sent(
    shell: Shell, arguments: list[str], complaint: str
) -> None:
    """Status 2 and one clear sentence."""
    shell.write("note.txt", "no certificate")
    said = await shell.omni("generate", "an apple", *arguments)
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err


async def test_https_with_a_certificate_of_ones_own(bare_shell: Shell, tmp_path: Path) -> None:
    """`sandbox --cert --key` serves https; --ca-file or SSL_CERT_FILE alone trusts it, else the way to it is told."""
    cert, key = certificate(tmp_path)
    process = await bare_shell.start("sandbox", "--median", "0.1", "--prerendered", "--cert", cert, "--key", key)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().split()[1]
    exports = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
    assert address.startswith("https://127.0.0.1:")
    assert exports[2] == f"export SSL_CERT_FILE={cert}"
    where = {"APIMART_BASE_URL": address, "APIMART_API_KEY": "sk-sandbox"}
    distrusting, by_option, by_environment = await asyncio.gather(
        bare_shell.omni("check", **where),
        bare_shell.omni("generate", "an apple", "-q", "--ca-file", cert, "-o", "one", **where),
        bare_shell.omni("generate", "a pear", "-q", "-o", "two", **where, SSL_CERT_FILE=cert),
    )
    process.kill()
    await process.wait()
    assert (distrusting.status, "certificate verify failed" in distrusting.out) == (3, True)
    assert "--ca-file" in distrusting.out
    for said in (by_option, by_environment):
        assert (said.status, said.err) == (0, "")
        assert (bare_shell.folder / said.out.strip()).read_bytes()[4:8] == b"ftyp"


async def test_a_private_sandbox_needs_no_proxy(bare_shell: Shell) -> None:
    """A proxy that the environment names for the world is not asked for a sandbox of one's own."""
    proxy = f"http://127.0.0.1:{free_port()}"
    said = await bare_shell.omni("check", "--sandbox", HTTP_PROXY=proxy, http_proxy=proxy)
    assert said.status == 0
