"""Notebooks that are really executed, by nbclient and a kernel."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .processes import ROOT

nbformat = pytest.importorskip("nbformat", reason="notebooks are executed with nbclient (the extra `dev`)")
nbclient = pytest.importorskip("nbclient", reason="notebooks are executed with nbclient (the extra `dev`)")
pytest.importorskip("ipykernel", reason="notebooks are executed by ipykernel (the extra `dev`)")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TIMEOUT = 90  # seconds for a cell; far more than any needs, so that only a hang reaches it


class Notebook:
    """A notebook with a running kernel, whose cells are executed one by one."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.content: Any = client.nb
        self._count = 0

    async def run(self, source: str | None = None, *, may_fail: bool = False) -> Any:
        """Execute a new cell, or the next code cell of the notebook. Return the cell, with its outputs."""
        cells = self.content.cells
        if source is not None:
            cells.append(nbformat.v4.new_code_cell(source))
            index = len(cells) - 1
        else:
            index = next(i for i, cell in enumerate(cells) if cell.cell_type == "code" and not cell.execution_count)
        self._count += 1
        cells[index].metadata["tags"] = ["raises-exception"] if may_fail else []
        cell: Any = await self._client.async_execute_cell(cells[index], index, execution_count=self._count)
        return cell

    async def interrupt(self) -> None:
        """Interrupt the kernel, as the button does."""
        await self._client.km.interrupt_kernel()


@asynccontextmanager
async def running_notebook(content: Any, folder: Path, environment: dict[str, str]) -> AsyncIterator[Notebook]:
    """Start a kernel in a folder, with no environment variables of this library but the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APIMART_")}
    own = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".run")}
    client = nbclient.NotebookClient(
        content, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    async with client.async_setup_kernel(env=inherited | own | environment):
        yield Notebook(client)


def empty_notebook() -> Any:
    """Return a notebook without cells."""
    return nbformat.v4.new_notebook()


def read_notebook(path: Path) -> Any:
    """Read a notebook from its file."""
    return nbformat.read(path, as_version=4)


def outputs_of(cell: Any, mime: str) -> list[str]:
    """Return what a cell shows in one format; errors and prints as text."""
    found = []
    for output in cell.outputs:
        if output.output_type == "error":
            assert mime != "text/plain", f"{output.ename}: {output.evalue}"
        elif output.output_type == "stream":
            found += [output.text] if mime == "stream" else []
        elif mime in output.data:
            found.append(output.data[mime])
    return found


def error_of(cell: Any) -> str:
    """Return the error with which a cell ended, as text; "" if it ended well."""
    return next((f"{o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"), "")
