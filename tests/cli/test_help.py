"""Help, versions, examples, suggestions and completion: what people try first, and what starting costs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from omni_async.cli import app
from omni_async.cli.examples import EXAMPLES
from omni_async.cli.serve_option import add_missing_port
from omni_async.cli.suggestions import suggest_command, suggest_option
from tests.support.markers import slow_after
from tests.support.shell import wait_for_exit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.shell import Shell


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
async def test_the_program_alone_shows_its_help(bare_shell: Shell, arguments: tuple[str, ...]) -> None:
    """Without a command the help is printed on stdout, with every command and its first line; the status is 0."""
    result = await bare_shell.omni(*arguments, COLUMNS="100")
    assert (result.status, result.err) == (0, "")
    for name, (_, summary) in app.COMMANDS.items():
        assert re.search(rf"│ {name} +{re.escape(summary)}", result.out)
    assert "<bool>" not in result.out


async def test_version_names_what_a_report_needs(bare_shell: Shell) -> None:
    """--version names the program, Python, aiohttp and pydantic."""
    result = await bare_shell.omni("--version")
    assert (result.status, result.err) == (0, "")
    first, second = result.out.splitlines()
    assert first.startswith("omni-async ")
    python = ".".join(map(str, sys.version_info[:3]))
    assert second == f"CPython {python}, aiohttp {version('aiohttp')}, pydantic {version('pydantic')}"


ALL_COMMANDS = {**app.COMMANDS, **{f"fleet {name}": entry for name, entry in app.FLEET_COMMANDS.items()}}


@pytest.mark.parametrize("name", ALL_COMMANDS)
async def test_help_ends_with_examples_that_work(bare_shell: Shell, name: str) -> None:
    """--help of a command begins with its line in the list and ends with two or three examples, which are accepted."""
    result = await bare_shell.omni(*name.split(), "--help", COLUMNS="120")
    assert result.status == 0
    assert ALL_COMMANDS[name][1] in result.out
    shown = re.findall(r"^   omni-async (.+)$", result.out.partition(" Examples:\n")[2], re.MULTILINE)
    assert shown == [arguments for _, arguments in EXAMPLES[name]]
    assert 2 <= len(shown) <= 3
    assert result.out.rstrip().endswith(shown[-1])
    for example in shown:
        assert example.startswith(name)
        command, arguments = get_command(app.app), add_missing_port(shlex.split(example))
        while hasattr(command, "get_command"):
            first, *arguments = arguments
            command = command.get_command(None, first)
        assert command.make_context(name, arguments).params


def test_no_command_but_those_of_a_fleet_needs_its_extra() -> None:
    """The help of the program, and that of `fleet`, load neither psycopg nor procrastinate."""
    program = (
        "import sys; from omni_async.cli import app\n"
        "for arguments in ([], ['fleet', '--help'], ['status', '--help'], ['fleet', 'status', '--help']):\n"
        "    try: app.run_arguments(arguments)\n"
        "    except SystemExit as end: assert end.code == 0, end.code\n"
        "print(sorted({'psycopg', 'procrastinate', 'obstore'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("statu", "No such command 'statu'. Did you mean 'status'?"),
        ("Batch", "Did you mean 'batch'?"),
        ("genrate a", "Did you mean 'generate'?"),
        ("ls", "Did you mean 'status'?"),
        ("download task_1", "Did you mean 'fetch'?"),
        ("help", "Did you mean '--help'?"),
        ("xyzzy", "See omni-async --help"),
        ("batch p.txt --outptu x", "No such option: --outptu. Did you mean --output?"),
        ("batch p.txt --output-dir x", "Did you mean --output?"),
        ("batch p.txt --max_cost 3", "Did you mean --max-cost?"),
        ("batch p.txt --concurrency 3", "Did you mean --max-in-flight?"),
        ("status --stat failed", "Did you mean --status?"),
        ("generate a --api-key sk-good", "set APIMART_API_KEY"),
        ("--json status", "Options of a command come after its name"),
        ("--verison", "Did you mean --version?"),
        ("status --xyzzy", "No such option: --xyzzy."),
    ],
)
async def test_what_was_meant_is_suggested(bare_shell: Shell, arguments: str, hint: str) -> None:
    """A command or an option that does not exist ends with status 2 and names the nearest one."""
    result = await bare_shell.omni(*arguments.split(), COLUMNS="200")
    assert (result.status, result.out) == (2, "")
    assert hint in result.err


def test_only_what_exists_is_suggested() -> None:
    """A word for an option or a command that is not there suggests something else, or nothing."""
    assert "--max-in-flight" not in suggest_option("--concurrency", ["--output", "--help"])
    assert "reconcile" not in suggest_command("billing", ["batch", "status"])


def installed(folder: Path) -> Path:
    """Write the program as an installation does, and return its folder."""
    program = folder / "bin" / "omni-async"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom omni_async.__main__ import main\nmain()\n")
    program.chmod(0o755)
    return program.parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_bash_completes_commands_options_and_values(bare_shell: Shell) -> None:
    """With the script of --show-completion, bash completes commands, options and the values of an option."""
    folder = installed(bare_shell.folder)
    environment = bare_shell.environment | {"PATH": f"{folder}:{os.environ['PATH']}"}
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # pytest is no shell

    words = [
        ("omni-async", "sta"),
        ("omni-async", ""),
        ("omni-async", "batch", "--max-c"),
        ("omni-async", "status", "--status", "time"),
    ]
    script = 'eval "$(omni-async --show-completion bash)"\n' + "".join(
        f"COMP_WORDS=({' '.join(map(shlex.quote, line))}) COMP_CWORD={len(line) - 1}\n"
        '_omni_async_completion omni-async; echo "${COMPREPLY[@]}"\n'
        for line in words
    )
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    commands, everything, options, values = (line.split() for line in done.stdout.splitlines())
    assert (commands, options, values) == (["status"], ["--max-cost"], ["timed_out"])
    assert set(everything) >= set(app.COMMANDS)


async def test_installing_the_completion_is_offered(bare_shell: Shell) -> None:
    """The help lists both options for it."""
    result = await bare_shell.omni("--help")
    assert "--install-completion" in result.out
    assert "--show-completion" in result.out


LIGHT = {"aiohttp.web", "jinja2", "omni_async.sandbox", "omni_async.gallery"}
LIGHTER = LIGHT | {"omni_async.cli.run"}


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    slow_after(1, [("--help", LIGHTER), ("--version", LIGHTER), ("status --help", LIGHTER), ("models", LIGHT)]),
)
async def test_a_command_imports_only_what_it_needs(bare_shell: Shell, arguments: str, unneeded: set[str]) -> None:
    """Neither the help nor a small command imports a web server, the sandbox or the gallery."""
    program = (
        "import sys, omni_async.__main__ as m; sys.argv[0] = 'omni-async'\n"
        "try: m.main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    result = await wait_for_exit(await bare_shell.start_python("-c", program, *arguments.split()))
    assert result.status == 0
    assert not unneeded & set(result.err.split())
