"""The example in the docstring of each main class, method and module runs as it is, against a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async import Connection, Job, LedgerReader, Limits, OmniClient, Polling, Retry, VideoRequest, batch
from omni_async.sandbox import Sandbox
from omni_async.testing import SandboxThread
from tests.support import snippets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow  # the default polling waits a second before the first check

DOCUMENTED = {
    "OmniClient": OmniClient,
    "OmniClient.as_completed": OmniClient.as_completed,
    "Job": Job,
    "VideoRequest": VideoRequest,
    "Limits": Limits,
    "Retry": Retry,
    "Polling": Polling,
    "Connection": Connection,
    "LedgerReader": LedgerReader,
    "Sandbox": Sandbox,
    "batch": batch,
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxThread]:
    """Start one sandbox for all examples."""
    with SandboxThread() as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_runs(name: str, sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is short, at most ten lines, and raises no error."""
    code = snippets.example(DOCUMENTED[name])
    assert code is not None, f"the docstring of {name} has no block after a line that ends in `::`"
    assert 2 <= len(code.splitlines()) <= 10
    for variable, value in sandbox.environment.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "prompts.jsonl").write_text('{"id": "apple", "prompt": "a red apple"}\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    snippets.run(code, name=name)


def test_fragments_get_what_they_use(sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner itself: a client, a job and a ledger are provided, and an error in a fragment is raised."""
    for variable, value in sandbox.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    snippets.run("path = await job\nassert path.is_file()\nassert [await j for j in jobs]\n")
    snippets.run("with LedgerReader('clips/ledger.db') as reader:\n    assert len(list(reader.jobs())) == 3\n")
    snippets.run("async for done in client.as_completed(prompts):\n    assert (await done).suffix == '.mp4'\n")
    with pytest.raises(ValueError, match="submits_per_minute"):
        snippets.run("Limits(submits_per_minute=-1)")
    with pytest.raises(NameError, match="undefined"):
        snippets.run("print(undefined)")
    documented = "Summary.\n\n    Example::\n\n        one = 1\n        two = 2\n\n    More text.\n    "
    assert snippets.example(type("Documented", (), {"__doc__": documented})) == "one = 1\ntwo = 2\n"
