"""Run pytest in a project folder, as a user of the plugin does."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from tests.support.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = ROOT / "omni_async" / "testing" / "plugin"


async def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest in a folder and return its exit status and output.

    Warnings are errors, and no setting of this checkout applies.
    """
    paths = os.pathsep.join(map(str, [PLUGIN, ROOT]))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-W", "error", "-q", "-c", "/dev/null", "--rootdir", "."),
        *("-p", "pytest_omni_async", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "PYTEST_ADDOPTS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()
