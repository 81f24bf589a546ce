"""`omni-async sandbox`: every setting is an option, as the other commands show theirs, and it serves until a signal."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from omni_async.cli.commands import sandbox as command
from omni_async.sandbox import CHOICES, FAULTS, SandboxSettings
from tests.support.sandbox_client import SandboxClient
from tests.support.shell import wait_for_exit

if TYPE_CHECKING:
    from tests.support.shell import Shell

FIELDS = list(SandboxSettings.__dataclass_fields__)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_until_a_signal(bare_shell: Shell, number: signal.Signals) -> None:
    """It prints addresses and a key, also as lines for a shell, makes clips, and ends cleanly on either signal."""
    process = await bare_shell.start("sandbox", "--median", "0", "--prerendered", "--fault", "http_503=0")
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    base_url = next(word for word in line.split() if word.startswith("http"))
    assert "sk-sandbox" in line
    exports = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    assert exports == [f"export APIMART_BASE_URL={base_url}", "export APIMART_API_KEY=sk-sandbox"]
    async with aiohttp.ClientSession() as session:
        stub: Any = type("Sandbox", (), {"base_url": base_url, "api_key": "sk-any"})
        assert (await SandboxClient(stub, session).completed())["result"]
    process.send_signal(number)
    result = await wait_for_exit(process)
    assert (result.status, result.out, result.err) == (0, "", "")


async def test_fault_list_prints_every_fault(bare_shell: Shell) -> None:
    """`--fault list` prints a line for each fault."""
    result = await bare_shell.omni("sandbox", "--fault", "list")
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()] == list(FAULTS)


async def test_every_setting_is_an_option_in_a_panel(bare_shell: Shell) -> None:
    """The help names every field of the settings and all choices, in panels like those of the other commands."""
    result = await bare_shell.omni("sandbox", "--help", COLUMNS="200")
    assert result.status == 0
    for name in FIELDS:
        assert f"--{name.replace('_', '-').replace('faults', 'fault')}" in result.out
    assert all("|".join(choices) in result.out for choices in CHOICES.values())
    assert sorted(name for names in command._PANELS.values() for name in names) == sorted(FIELDS)
    panels = [line.split()[1] for line in result.out.splitlines() if line.startswith("╭─")]
    assert sorted(panels[1:]) == sorted(command._PANELS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--fault earthquake=1", "unknown fault 'earthquake'"),
        ("--fault http_500=often", "must be NAME=P"),
        ("--per-minute 0", "per_minute=0.0: must be"),
        ("--window many", "must be N/SECONDS"),
        ("--window 0/1", "window=(0, 1.0): must be"),
        ("--submit-shape round", "'round' is not one of"),
        ("--permin 3", "Did you mean --per-minute?"),
    ],
)
async def test_invalid_options_are_explained(bare_shell: Shell, arguments: str, message: str) -> None:
    """An invalid option ends the command with status 2 and a message about it."""
    result = await bare_shell.omni("sandbox", *arguments.split())
    assert (result.status, result.out) == (2, "")
    assert message in " ".join(result.err.replace("│", " ").split())


async def test_options_become_settings(bare_shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings hold what the command line says, and the defaults of everything else."""
    got: list[SandboxSettings] = []

    async def note(settings: SandboxSettings) -> None:
        got.append(settings)

    monkeypatch.setattr(command, "serve", note)
    line = (
        "--per-minute 30 --burst 2 --window 5/1.5 --no-idempotency --fault http_500=.5 --fault drop_after --credits 9 "
        "--retry-after date --no-declare-idempotency --seconds 4"
    )
    assert (await bare_shell.omni("sandbox", *line.split())).status == 0
    assert (await bare_shell.omni("sandbox")).status == 0
    options: dict[str, Any] = {"per_minute": 30, "burst": 2, "window": (5, 1.5), "idempotency": False, "credits": 9}
    options |= {"retry_after": "date", "declare_idempotency": False, "seconds": 4}
    assert got == [SandboxSettings(**options, faults={"http_500": 0.5, "drop_after": 1.0}), SandboxSettings()]
    assert SandboxSettings(**got[0].to_json()) == got[0]
