"""A process that has run out of file descriptors loses no job: it waits until there are some again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from omni_async.sandbox import SandboxProcess
from tests.support.processes import finish, start_python
from tests.support.reference_files import png

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit to set"),
]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.mark.parametrize("taken_at", ["start", "submitting", "running", "downloading"])
async def test_a_shortage_of_files_is_waited_out_at_every_stage(tmp_path: Path, taken_at: str) -> None:
    """No file can be opened for six times as long as anything is retried; every job completes, paid once."""
    for number in range(6):
        png(tmp_path, str(number))
    async with SandboxProcess(median=1.0, prerendered=True) as sandbox:
        options = {
            "base_url": sandbox.base_url,
            "api_key": sandbox.api_key,
            "folder": str(tmp_path),
            "limit": 64,
            "taken_at": taken_at,
        }
        program = await start_python(
            tmp_path, "-W", "error", "-m", "tests.support.shortage", json.dumps(options | {"seconds": 6.0})
        )
        status, out, err = await finish(program)
        record = await sandbox.record()
    assert status == 0, err
    result = json.loads(out)
    assert result["taken"] > 10
    assert result["outcomes"] == ["completed"] * 6, err
    assert record["accepted"] == 6
    assert err.count("short of open files") == 1, err
    assert "Traceback" not in err
