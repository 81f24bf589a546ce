"""The README's two commands are there, are complete, and do what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import ssl
import stat
import textwrap
import tomllib
from typing import TYPE_CHECKING, Any

from omni_async.sandbox import SandboxProcess
from tests.support.processes import ROOT, assert_plays, clips_in, ended, started
from tests.support.projects import run_pytest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

VENV = "python -m venv .venv"


def commands() -> list[str]:
    """Give the commands of the README's section of that name."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Two commands\n")[1].split("\n## ")[0]
    return re.findall(r"^```\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)


def programs() -> list[str]:
    """Give the README's programs."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def program_with(word: str) -> str:
    """Give the first of them that uses a word; what awaits outside of a coroutine is put into one."""
    found = next(each for each in programs() if word in each)
    if "asyncio.run" in found:
        return found
    imports, body = found.split("\n\n", 1)
    return f"import asyncio\n{imports}\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())"


def test_there_are_two_commands_and_each_is_complete() -> None:
    """Each is one line that makes an environment, installs an extra that exists, and runs."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(commands()) == 2
    for command in commands():
        make, install, run = command.split(" && ")
        assert make == VENV
        (extra,) = re.fullmatch(r"\.venv/bin/pip install -e '\.\[(\w+)\]'", install).groups()  # type: ignore[union-attr]
        assert extra in metadata["optional-dependencies"]
        assert run.split()[0] in {".venv/bin/python", *(f".venv/bin/{name}" for name in metadata["scripts"])}
    assert commands()[1].endswith(" -m pytest -n auto")


async def test_the_first_command_makes_every_clip(tmp_path: Path) -> None:
    """Its last part, as it stands but for the folder, needs no key and makes a clip of each line of the examples."""
    program, *arguments = shlex.split(commands()[0].split(" && ")[-1])
    assert (program, arguments[-2:]) == (".venv/bin/omni-async", ["-o", "clips"])
    folder = tmp_path / "clips"
    process = await started(ROOT, "-m", "omni_async", *arguments[:-1], str(folder))
    status, out, err = await ended(process)
    lines = [
        json.loads(line) for line in (ROOT / "examples" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) >= 8
    assert status == 0, err
    assert out.startswith(f"{len(lines)} of {len(lines)} clips in ")
    assert len(clips_in(folder)) == len(lines)
    ratios = {line.get("id"): line.get("aspect_ratio", "16:9") for line in lines}
    for path in folder.glob("*.mp4"):
        assert_plays(path, ratios.get(path.stem, ratios.get(None, "16:9")))
    assert {name for name in ratios if name} <= {path.stem for path in folder.iterdir()}


async def test_its_programs_work(tmp_path: Path) -> None:
    """The first program makes its four clips; the lines about the sandbox make one, and what they assert holds."""
    async with SandboxProcess(median=0.3, seconds=3) as sandbox:
        variables = {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}
        assert await ended(await started(tmp_path, "-c", program_with("asyncio.gather"), **variables)) == (0, "", "")
        made = {task["prompt"]: task for task in (await sandbox.record())["tasks"].values()}
    assert len(clips_in(tmp_path / "clips")) == len(made) == 4
    assert made["a harbour at dawn"]["body"]["aspect_ratio"] == "9:16"
    assert "extend_from_task_id" in made["now make it snow"]["body"]

    (tmp_path / "beside").mkdir()
    assert await ended(await started(tmp_path / "beside", "-c", program_with("import Sandbox"))) == (0, "", "")
    (clip,) = clips_in(tmp_path / "beside" / "clips").values()
    assert_plays(clip)


async def test_the_program_of_the_gallery_works(tmp_path: Path) -> None:
    """It makes a clip, serves the live page meanwhile, and leaves a gallery."""
    async with SandboxProcess(median=0.3, prerendered=True) as sandbox:
        variables = {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key}
        assert await ended(await started(tmp_path, "-c", program_with("LivePage("), **variables)) == (0, "", "")
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 1
    assert (tmp_path / "clips" / "gallery.html").is_file()


async def test_its_tests_pass(tmp_path: Path) -> None:
    """The tests that it shows pass, with the plugin and a program that films scenes."""
    with_sandbox, in_memory = (text for text in programs() if "def test_" in text)
    (tmp_path / "my_app.py").write_text((ROOT / "examples" / "testing" / "storyboard.py").read_text())
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    (tmp_path / "test_it.py").write_text(f"{with_sandbox}\n\n{in_memory}")
    status, out = await run_pytest(tmp_path, "-o", "anyio_mode=auto", "-p", "no:asyncio")
    assert (status, "2 passed" in out) == (0, True), out


def test_its_connection_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that show every setting of a connection make a client."""
    monkeypatch.setenv("APIMART_API_KEY", "sk-any")
    found: dict[str, Any] = {"my_ssl_context": ssl.create_default_context()}
    exec(next(text for text in programs() if "Connection(" in text), found)
    assert "not entered" in repr(found["client"])


async def test_the_check_runs_the_second_command(tmp_path: Path) -> None:
    """`.ci/run` finds the README's second command and runs it as it stands, whichever folder it is called from."""
    (tmp_path / ".ci").mkdir()
    for name in (".ci/run", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    tools = tmp_path / "tools"
    tools.mkdir()
    program(tools / "apt-get", "exit 0")
    program(tools / "python", PRETENDS.format(log=shlex.quote(str(tmp_path / "log"))))
    process = await asyncio.create_subprocess_exec(
        "bash",
        str(tmp_path / ".ci" / "run"),
        cwd="/",
        env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    status, out, err = await ended(process)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"+ {commands()[1]}"
    said = [shlex.split(part)[1:] for part in commands()[1].split(" && ")]
    assert [line.split() for line in (tmp_path / "log").read_text().splitlines()] == said


# An interpreter that makes no environment and runs nothing, but notes what it was asked for: the real one would run
# all tests once more.
PRETENDS = """echo "$@" >>{log}
test "$2" = venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/pip
exit 0"""


def program(path: Path, script: str) -> None:
    """Write a program for the shell."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
