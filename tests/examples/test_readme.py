"""The README's two commands are complete and do what it says, and the Python code in every README runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest

from omni_async.testing import SandboxThread
from tests.support import snippets
from tests.support.processes import ROOT, assert_plays, clips_in, finish, start_python
from tests.support.projects import run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VENV = "python -m venv .venv"
README = ROOT / "README.md"
FLEET = ROOT / "omni_async/fleet/README.md"  # its code needs a database: tests/fleet/test_readme.py
PAGES = [
    path
    for path in (README, *sorted(ROOT.glob("omni_async/*/README.md")), ROOT / ".github" / "CONTRIBUTING.md")
    if path.exists() and path != FLEET and snippets.blocks(path.read_text(encoding="utf-8"))
]
CONFTEST = "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


def commands() -> list[str]:
    """Return the commands of the README's section "Two commands"."""
    section = README.read_text(encoding="utf-8").split("## Two commands\n")[1].split("\n## ")[0]
    return re.findall(r"^```\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxThread]:
    """Start one sandbox for the code of all pages."""
    with SandboxThread(median=0.3) as sandbox:
        yield sandbox


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
async def test_the_python_code_of_a_page_runs(page: Path, sandbox: SandboxThread, tmp_path: Path) -> None:
    """Programs and fragments run one after the other in one folder; tests pass in pytest with the plugin."""
    programs, tests = [], 0
    for number, code in enumerate(snippets.blocks(page.read_text(encoding="utf-8")), start=1):
        is_test = re.search(r"^(async )?def test_", code, re.MULTILINE) is not None
        tests += len(re.findall(r"^(?:async )?def test_", code, re.MULTILINE))
        named = re.match(r"# ([\w-]+\.py)\n", code)  # a block that begins so is a file that other blocks import
        name = named.group(1) if named else f"test_{number}.py" if is_test else f"{number}.py"
        (tmp_path / name).write_text(code, encoding="utf-8")
        if not is_test and (named is None or "asyncio.run(" in code):
            programs.append(name)
    if programs:
        process = await start_python(
            tmp_path, "-W", "error", "-m", "tests.support.snippets", *programs, **sandbox.environment
        )
        status, out, err = await finish(process)
        assert (status, err) == (0, ""), out + err
    if tests:
        (tmp_path / "conftest.py").write_text(CONFTEST)
        status, out = await run_pytest(tmp_path, "-o", "anyio_mode=auto", "-p", "no:asyncio")
        assert (status, f"{tests} passed" in out) == (0, True), out
    assert sandbox.tasks_awaiting_download() == []


@pytest.mark.slow
async def test_the_program_of_the_readme_makes_clips(tmp_path: Path) -> None:
    """Its first program ends with a clip for each task that it paid for, and each clip plays."""
    program = next(code for code in snippets.blocks(README.read_text(encoding="utf-8")) if "asyncio.run(" in code)
    with SandboxThread(median=0.3, seconds=3, prerendered=False) as sandbox:
        status, _, err = await finish(await start_python(tmp_path, "-c", program, **sandbox.environment))
        assert (status, err) == (0, "")
        tasks = {task.task_id: task for task in sandbox.tasks}
        sandbox.assert_paid_once()
    assert any("extend_from_task_id" in task.body for task in tasks.values())
    clips = clips_in(tmp_path / "clips")
    assert len(clips) >= 3
    assert clips.keys() == tasks.keys()
    for task_id, path in clips.items():
        body = tasks[task_id].body
        # A clip that extends another takes its shape from it.
        body = tasks[body["extend_from_task_id"]].body if "extend_from_task_id" in body else body
        assert_plays(path, body.get("aspect_ratio", "16:9"))


def test_there_are_two_complete_commands() -> None:
    """Each is one line that creates an environment, installs an extra that exists, and runs."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(commands()) == 2
    for command in commands():
        create, install, run = command.split(" && ")
        assert create == VENV
        (extra,) = re.fullmatch(r"\.venv/bin/pip install -e '\.\[(\w+)\]'", install).groups()  # type: ignore[union-attr]
        assert extra in metadata["optional-dependencies"]
        assert run.split()[0] in {".venv/bin/python", *(f".venv/bin/{name}" for name in metadata["scripts"])}
    assert commands()[1].endswith(" -m pytest -n auto")


@pytest.mark.slow
async def test_the_first_command_makes_every_clip(tmp_path: Path) -> None:
    """Its last part needs no key and makes a clip for each line of the examples. Only the folder is replaced here."""
    program, *arguments = shlex.split(commands()[0].split(" && ")[-1])
    assert (program, arguments[-2:]) == (".venv/bin/omni-async", ["-o", "clips"])
    folder = tmp_path / "clips"
    process = await start_python(ROOT, "-m", "omni_async", *arguments[:-1], str(folder))
    status, out, err = await finish(process)
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


async def test_the_check_runs_the_second_command(tmp_path: Path) -> None:
    """`.ci/run` runs the README's second command unchanged, from any current folder; its closing line comes last."""
    (tmp_path / ".ci").mkdir()
    for name in (".ci/run", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    tools = tmp_path / "tools"
    tools.mkdir()
    write_program(tools / "apt-get", "exit 0")
    write_program(tools / "python", RECORDING_PYTHON.format(log=shlex.quote(str(tmp_path / "log"))))
    process = await asyncio.create_subprocess_exec(
        "bash",
        str(tmp_path / ".ci" / "run"),
        cwd="/",
        env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    status, out, err = await finish(process)
    assert (status, err) == (0, "")
    assert (out.splitlines()[0], out.splitlines()[-1]) == (f"+ {commands()[1]}", "ran -m pytest -n auto")
    expected = [shlex.split(part)[1:] for part in commands()[1].split(" && ")]
    assert [line.split() for line in (tmp_path / "log").read_text().splitlines()][: len(expected)] == expected


# Stands in for the interpreter: it records its arguments and runs nothing. The real one would run all tests again.
RECORDING_PYTHON = """echo "$@" >>{log}
test "$2" = venv && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pip"
test "$2" = pytest && echo "ran $@"
exit 0"""


def write_program(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
