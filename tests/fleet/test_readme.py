"""The program in the README of the fleet runs, and the files that it shows can be read by those they are for."""

from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async.cli.exit_status import ExitStatus
from omni_async.testing import SandboxThread
from tests.support import snippets
from tests.support.postgres import needs_postgres
from tests.support.processes import ROOT, finish, start_python

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "omni_async/fleet/README.md").read_text("utf-8")


@pytest.mark.slow
@needs_postgres
async def test_the_program_of_the_page_makes_its_clips(fleet_url: str, tmp_path: Path) -> None:
    """It prints each job once, and every clip is where it says; each is paid for once."""
    (program,) = snippets.blocks(PAGE)
    with SandboxThread(median=0.3) as sandbox:
        variables = {**sandbox.environment, "OMNI_DATABASE_URL": fleet_url}
        status, out, err = await finish(await start_python(tmp_path, "-W", "error", "-c", program, **variables))
        assert (status, err) == (0, "")
        sandbox.assert_paid_once()
        assert len(sandbox.tasks) == 4
    assert len(re.findall(r"^a-hare-take-\d\S* ", out, re.MULTILINE)) == 3
    assert "jobs=4" in out
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 4


def test_the_unit_for_systemd_is_complete() -> None:
    """It has the sections of a service, starts the worker, and stops it by the signal that hands over."""
    text = PAGE.partition("```ini\n")[2].partition("```")[0]
    unit = configparser.ConfigParser()
    unit.read_string(text.partition("\n")[2])
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert "omni-async fleet worker" in unit["Service"]["ExecStart"]
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    assert int(unit["Service"]["SuccessExitStatus"]) == ExitStatus.INTERRUPTED  # else a unit that was stopped "failed"
